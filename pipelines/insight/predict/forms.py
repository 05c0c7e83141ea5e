"""The forms of a model file. None is code: a pickle would run what its writer wants on each worker, so none is read.

logistic  what `audience train` fits (transforms/insight/predict/logistic.py), as JSON
onnx      a graph of operators, by ONNX Runtime; custom operators would need a library, and none is loaded
xgboost   JSON or UBJSON of XGBoost's `save_model`, whose trees are numbers
"""

from typing import TYPE_CHECKING

import msgspec

from transforms.errors import OptionError, first_line
from transforms.insight.predict.features import NAMES
from transforms.insight.predict.logistic import Logistic

if TYPE_CHECKING:
    import numpy as np

    from transforms.insight.predict.scored import Probabilities

LOGISTIC = "logistic"
FILES = {LOGISTIC: "parameters.json", "onnx": "model.onnx", "xgboost": "model.ubj"}
INSTALL = "pip install 'audience-insights[predict]'"


def load(form: str, content: bytes, where: str) -> "Probabilities":
    """The model of a file: float64 [rows, features] -> float64 [rows]. Errors: OptionError that names `where`."""
    readers = {LOGISTIC: _logistic, "onnx": _onnx, "xgboost": _xgboost}
    if form not in readers:
        raise OptionError(f"{where}: got the form {form!r}; allowed: {', '.join(readers)}")
    try:
        return _checked(readers[form](content), where)
    except ImportError as problem:
        raise OptionError(f"{where}: a model of the form {form} needs {problem.name}; run: {INSTALL}") from None
    except OptionError:
        raise
    except Exception as problem:  # each library has errors of its own for a file that it cannot read
        raise OptionError(f"{where}: cannot read a model of the form {form}: {first_line(problem)}") from None


def _logistic(content: bytes) -> "Probabilities":
    return msgspec.json.decode(content, type=Logistic).probabilities


def _onnx(content: bytes) -> "Probabilities":
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    [asked] = session.get_inputs()
    kind = np.float64 if asked.type == "tensor(double)" else np.float32
    last = session.get_outputs()[-1]
    if not last.type.startswith("tensor("):
        raise ValueError("its last output is no tensor of probabilities; convert with options={'zipmap': False}")
    return lambda rows: session.run([last.name], {asked.name: rows.astype(kind)})[0]


def _xgboost(content: bytes) -> "Probabilities":
    import xgboost

    model = xgboost.Booster({"nthread": 1})
    model.load_model(bytearray(content))
    model.feature_names = None  # features are passed by their place
    return lambda rows: model.inplace_predict(rows)


def _checked(model: "Probabilities", where: str) -> "Probabilities":
    """The model, whose answers are one probability for each row, those of the second class of two."""
    import numpy as np

    def probabilities(rows: "np.ndarray") -> "np.ndarray":
        found = np.asarray(model(rows), dtype=np.float64)
        if found.ndim == 2 and found.shape[1] in (1, 2):
            found = found[:, -1]
        if found.shape != (len(rows),) or not ((found >= 0) & (found <= 1)).all():
            raise OptionError(
                f"{where}: got answers of the shape {found.shape} for {len(rows)} rows, or outside 0 to 1; allowed: a "
                "probability for each row, or one for each of two classes"
            )
        return found

    try:
        probabilities(np.zeros((2, len(NAMES))))
    except OptionError:
        raise
    except Exception as problem:
        raise OptionError(f"{where}: it does not take {len(NAMES)} features a row: {first_line(problem)}") from None
    return probabilities
