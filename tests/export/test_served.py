"""A bundle behind a server: densities come over HTTP, as bytes or JSON, from anywhere."""

import base64
import json
import shutil
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd
import pytest

from taskgroup.errors import BundleError
from taskgroup.export import save_bundle
from taskgroup.export.pyfunc_folder import description, save_pyfunc
from taskgroup.export.served import served_predictions

# Of MLflow's own on loading and serving.
pytestmark = pytest.mark.filterwarnings("ignore")

CHGCAR = sorted(
    (Path(__file__).parents[2] / "taskgroup/datasets/data/crystals/chgcar").glob("*.CHGCAR.gz")
)[0]


@pytest.fixture(scope="module")
def model(bundle, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    saved = save_bundle(folder / "bundle", bundle.spec, bundle.members)
    save_pyfunc(saved, folder / "model")
    # The model stands on its own.
    shutil.rmtree(saved)
    return folder / "model"


@pytest.fixture(scope="module")
def server(model):
    """MLflow's own scoring server, which ``mlflow models serve`` starts, on a free port."""
    import mlflow
    import uvicorn
    from mlflow.pyfunc.scoring_server import init

    config = uvicorn.Config(init(mlflow.pyfunc.load_model(str(model))), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/invocations"
    server.should_exit = True
    thread.join(10)


def post(address: str, records: list[dict], params: dict | None = None) -> list[dict]:
    body = {"dataframe_records": records}
    if params:
        body["params"] = params
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())["predictions"]


def test_bytes_json_and_a_path_give_the_same_predictions_over_http(
    server, bundle, tmp_path, monkeypatch
) -> None:
    from pymatgen.io.vasp import Chgcar

    monkeypatch.chdir(tmp_path)
    encoded = base64.b64encode(CHGCAR.read_bytes()).decode()
    document = Chgcar.from_file(CHGCAR).to_json()
    rows = post(server, [{"file": encoded, "name": CHGCAR.name}])
    rows += post(server, [{"density": document}])
    rows += post(server, [{"path": str(CHGCAR)}])
    expected = bundle.predict([CHGCAR])
    assert [row["id"] for row in rows] == [CHGCAR.name, "input-0", str(CHGCAR)]
    for row in rows:
        for target, unit in bundle.units.items():
            header = f"{target} [{unit}]" if unit else target
            assert row[header] == pytest.approx(expected[target].iloc[0], rel=1e-4)


def test_a_coverage_adds_intervals(make_bundle, dataset) -> None:
    widths = {name: {"0.9": 0.5} for name in ("modulus", "energy", "strain")}
    bundle = make_bundle(dataset, intervals=widths)
    frame = served_predictions(bundle, pd.DataFrame({"path": [str(CHGCAR)]}), 0.9)
    assert {"energy_low [eV/atom]", "energy_high [eV/atom]", "strain_low"} <= set(frame.columns)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"name": "CHGCAR"}, "found none"),
        ({"density": "{}", "path": "x"}, "found density and path"),
        ({"file": base64.b64encode(b"nonsense").decode()}, "input 0/CHGCAR"),
        ({"path": "/nowhere/CHGCAR"}, "no such file"),
    ],
)
def test_a_wrong_request_is_answered_with_status_400_and_the_reason(server, record, reason) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        post(server, [record])
    assert refusal.value.code == 400
    assert reason in json.loads(refusal.value.read())["message"]


def test_a_name_leads_out_of_no_folder(bundle, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    table = pd.DataFrame({"file": [b"nonsense"], "name": ["../../escaped/CHGCAR"]})
    with pytest.raises(BundleError):
        served_predictions(bundle, table)
    assert not list(tmp_path.rglob("escaped"))


def test_the_signature_names_inputs_and_outputs_with_units(model, bundle) -> None:
    import mlflow

    signature = mlflow.models.get_model_info(str(model)).signature
    assert signature.inputs.input_names() == ["file", "name", "density", "path"]
    outputs = signature.outputs.input_names()
    for target, unit in bundle.units.items():
        assert (f"{target} [{unit}]" if unit else target) in outputs
    assert not list(model.rglob("*.pkl"))


def test_the_description_of_a_bundle_has_a_row_for_each_target(bundle, tmp_path) -> None:
    saved = save_bundle(tmp_path / "bundle", bundle.spec, bundle.members)
    text = description(saved)
    for target, unit in bundle.units.items():
        assert f"| {target} | {unit or '–'} |" in text
