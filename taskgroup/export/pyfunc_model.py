"""The code of a model in MLflow, which runs this file where the model is loaded; nothing is unpickled."""

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class BundleModel(PythonModel):
    """Predicts a table of densities, one per row; see ``taskgroup.export.served``."""

    def load_context(self, context: Any) -> None:
        """Load the bundle that lies among the model's artifacts."""
        from taskgroup.export import load_bundle

        self.bundle = load_bundle(context.artifacts["bundle"])

    # The type tells MLflow to go by the signature, not by type hints; without one it warns.
    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Return a DataFrame, one row per input; ``params["coverage"]`` above 0 adds prediction intervals."""
        from mlflow.exceptions import MlflowException

        from taskgroup.errors import InputError
        from taskgroup.export.served import served_predictions

        coverage = (params or {}).get("coverage") or None
        try:
            return served_predictions(self.bundle, model_input, coverage)
        except InputError as error:
            # A server answers it with status 400 and this message.
            raise MlflowException.invalid_parameter_value(str(error)) from error


set_model(BundleModel())
