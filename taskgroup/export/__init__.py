"""The exported result: a grouping with its networks, loadable without executing code, predicting with units.

bundle = load_bundle("runs/quickstart/export")
bundle.predict(["CHGCAR"])                      # a DataFrame, one column per target, units in the attrs
evaluate(bundle, load_dataset("crystals"))      # metrics on the rows it has not seen
"""

from taskgroup.export._evaluate import evaluate, unseen_rows
from taskgroup.export._predict import predict, predict_crystals
from taskgroup.export.bundle import Bundle, ReferenceInputs
from taskgroup.export.bundle_folder import check_bundle, load_bundle, save_bundle
from taskgroup.export.network_file import read_network, write_network
from taskgroup.export.occlusion import Explanation, explain
from taskgroup.export.reference import BundleCheck, choose_inputs
from taskgroup.export.spec import BundleSpec, DensityFormat
from taskgroup.export.uncertainty import conformal_widths, residual_scale

__all__ = [
    "Bundle",
    "BundleCheck",
    "BundleSpec",
    "DensityFormat",
    "Explanation",
    "ReferenceInputs",
    "check_bundle",
    "choose_inputs",
    "conformal_widths",
    "evaluate",
    "explain",
    "load_bundle",
    "predict",
    "predict_crystals",
    "read_network",
    "residual_scale",
    "save_bundle",
    "unseen_rows",
    "write_network",
]
