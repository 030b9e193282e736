"""The code of a registered model. MLflow runs this file where the model is loaded; nothing is unpickled."""

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class BundleModel(PythonModel):
    """Predicts a table with a column ``path``, one density file per row."""

    def load_context(self, context: Any) -> None:
        """Load the bundle that lies among the model's artifacts."""
        from taskgroup.export import load_bundle

        self.bundle = load_bundle(context.artifacts["bundle"])

    # Without type hints: MLflow would take them for the model's schema.
    def predict(self, context, model_input, params=None):
        """Return a DataFrame, one row per input; see ``taskgroup.export.predict``."""
        return self.bundle.predict(list(model_input["path"]))


set_model(BundleModel())
