"""How the next trial is chosen: Optuna proposes settings, clustering makes a grouping, an evaluator trains it.

loop           the search loop
trial          one trial: from settings to a record
history        finished trials: repeats, gains, early failures
budget         the number of trials, over all processes
storage        the Optuna storage: opening it, baselines, interrupted trials
optuna_trials  asking and telling the sampler
groupings      from clustering settings to a grouping (affinities: what it is made from)
pruner         which groups to stop early
assembly       the exact best choice out of everything trained
"""
