"""Combining the losses of several targets into one update."""


def balancer_names() -> tuple[str, ...]:
    """Names that ``TrainConfig.balance`` may take."""
    return ("mean",)
