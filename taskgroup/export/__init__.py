"""The exported result: a grouping with its networks, loadable without executing code, predicting with units.

bundle = load_bundle("runs/quickstart/export")
bundle.predict(["CHGCAR"])                      # a DataFrame, one column a target, units in the attrs
evaluate(bundle, load_dataset("crystals"))      # metrics on the rows it has not seen
"""

from taskgroup.export._evaluate import evaluate, unseen_rows
from taskgroup.export._predict import predict, predict_arrays
from taskgroup.export.bundle import Bundle, load_bundle, save_bundle
from taskgroup.export.network_file import read_network, write_network
from taskgroup.export.spec import BundleSpec, DensityFormat, conformal_widths, residual_scale

__all__ = [
    "Bundle",
    "BundleSpec",
    "DensityFormat",
    "conformal_widths",
    "evaluate",
    "load_bundle",
    "predict",
    "predict_arrays",
    "read_network",
    "residual_scale",
    "save_bundle",
    "unseen_rows",
    "write_network",
]
