"""How the next trial is chosen: Optuna proposes settings, clustering makes a grouping of them, an evaluator trains it.

loop           the search loop
optuna_trials  trials in Optuna's storage and in the sampler's memory
groupings      from clustering settings to a grouping (affinities: from what)
pruner         which groups to stop early
assembly       the exact best choice out of everything trained
"""
