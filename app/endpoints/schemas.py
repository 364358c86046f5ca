"""JSON Schemas of requests and responses. They describe the model; app.model.signature validates requests."""

from dataclasses import replace
from typing import Any

from app.model.base import Model
from app.model.columns import Column
from app.model.output import Output

Json = dict[str, Any]

# Schemas of types that are not numbers. MLflow itself checks the contents of its nested types.
_OTHER_TYPES: dict[str, Json] = {
    "boolean": {"type": "boolean"},
    "string": {"type": "string"},
    "datetime": {"type": "string", "format": "date-time"},
    "binary": {"type": "string", "contentEncoding": "base64"},
    "array": {"type": "array"},
    "map": {"type": "object"},
    "object": {"type": "object"},
    "any": {},
}

# Meaning of a single number that is not a value of the target.
_MEANINGS = {
    "survival_risk": "Risk relative to that of other rows (hazard ratio). A higher one means an earlier event.",
    "survival_time": "Time until the event, in the unit of the target.",
}


def predictions(model: Model | None) -> Json:
    """Return the response of /predict."""
    items = _prediction(model.output) if model else {}
    return _object("Predictions", "", model=_model_name(), predictions={"type": "array", "items": items})


def explanations(model: Model | None) -> Json:
    """Return the response of /explain."""
    number: Json = {"type": "number"}
    added: Json = {"type": "object", "additionalProperties": number}
    known: Json = {}
    if model:
        names = model.signature.feature_names
        added = _object("Contributions", "Contribution of each feature.", **dict.fromkeys(names, number))
        if classes := model.output.margins(0):
            known = {"class": {"enum": [each["class"] for each in classes], "description": "Class of the margin."}}
    base = number | {"description": "Margin without any contribution: the expected value of the model."}
    margin = number | {"description": "Sum of the trees, before the objective transforms it into the prediction."}
    output = _object("ExplainedOutput", "", **known, base_value=base, margin=margin, contributions=added)
    text = "One output per margin: each class (only the second one of two), or each number of the prediction."
    outputs = {"type": "array", "items": output, "minItems": 1, "description": text}
    row = _object("Explanation", "", prediction=_prediction(model.output) if model else {}, outputs=outputs)
    return _object("Explanations", "", model=_model_name(), explanations={"type": "array", "items": row})


def labels(model: Model | None, most: int) -> Json:
    """Return the body of /feedback."""
    label: Json = {}
    if model:
        label = {"type": "number"} if model.output.form == "number" else {"enum": list(model.output.classes)}
    entry = _object("Label", "", token={"type": "string"}, label=label | {"description": "The observed outcome."})
    return _object("Labels", "", labels={"type": "array", "items": entry, "minItems": 1, "maxItems": most})


def scored() -> Json:
    """Return the response of /feedback."""
    rejected: Json = {"type": "array", "items": ref("CellProblem"), "description": "Rejected labels with the reason."}
    accepted: Json = {"type": "integer", "description": "Number of labels that were scored."}
    return _object("Scored", "", accepted=accepted, rejected=rejected)


def records(model: Model | None, most: int) -> Json:
    """Return the body in the form of records."""
    row: Json = {"type": "object"}
    if model:
        columns = model.signature.columns
        row |= {
            "properties": {column.name: _cell(column) for column in columns},
            "required": [column.name for column in columns if column.required],
            "additionalProperties": False,
        }
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": most}
    return _with_params(model, _object("Records", "One object per row, with a value per column.", instances=rows))


def matrix(model: Model | None, most: int) -> Json:
    """Return the body in the form of lists."""
    text = "One list per row, with the values of all columns in their order."
    return _with_params(model, _object("Matrix", text, instances=_lists(model, most)))


def split(model: Model | None, most: int) -> Json:
    """Return the body in split form."""
    names: Json = {"type": "array", "items": {"type": "string"}}
    if model:
        names = _tuple([{"const": column.name} for column in model.signature.columns])
    text = (
        "Column names once, then one list of values per row: the faster form for many rows. "
        "Columns may be in any order, and optional columns may be omitted. The index of pandas is ignored."
    )
    form = _object("Split", text, columns=names, data=_lists(model, most))
    form["properties"]["index"] = {}
    return _with_params(model, form)


def _lists(model: Model | None, most: int) -> Json:
    row = _tuple([_cell(column) for column in model.signature.columns]) if model else {"type": "array"}
    return {"type": "array", "items": row, "minItems": 1, "maxItems": most}


def _with_params(model: Model | None, form: Json) -> Json:
    """Add the model's parameters, if it has any."""
    if model and model.signature.parameters:
        properties: Json = {}
        for each in model.signature.parameters:
            value = _cell(each.column)
            properties[each.name] = ({"type": "array", "items": value} if each.many else value) | {
                "default": each.default
            }
        form["properties"]["params"] = {"type": "object", "properties": properties, "additionalProperties": False}
    return form


def _model_name() -> Json:
    text = {"type": "string"}
    return _object("ModelName", "Model that made the predictions.", name=text, version=text)


def _prediction(output: Output) -> Json:
    if output.form == "number":
        return {"type": "number"} | ({"description": text} if (text := _MEANINGS.get(output.task)) else {})
    if output.form == "numbers":
        return {"type": "array", "items": {"type": "number"}, "minItems": output.width, "maxItems": output.width}
    if output.form == "record":
        return _object("Record", "Numbers and strings of the model by name.", **{name: {} for name in output.names})
    label: Json = {"type": "string", "description": "Most probable class."}
    if output.classes:
        label["enum"] = list(output.classes)
    if output.form == "label":
        return _object("ClassPrediction", "", label=label)
    share = {"type": "number", "minimum": 0, "maximum": 1}
    shares = _object("Probabilities", "Probability of each class.", **dict.fromkeys(output.classes, share))
    return _object("ClassPrediction", "", label=label, probabilities=shares)


def _cell(column: Column) -> Json:
    if column.categories:
        known: Json = {"enum": [*column.categories, *([None] if column.nullable else [])]}
        other = {"type": "string" if column.type == "string" else "integer"}
        text = "A different category is a missing value."
        return {"anyOf": [known, other], "description": text} if column.unknown == "missing" else known
    if column.shape:
        return _tensor(replace(column, shape=()), column.shape)
    if (schema := _OTHER_TYPES.get(column.type)) is None:
        low, high = column.bounds or (-column.largest, column.largest)
        schema = {"type": "integer" if column.bounds else "number", "minimum": low, "maximum": high}
    if column.parts:
        schema = {"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}
        text = "Date, or date and time; without an offset in UTC. The model sees its parts: "
        schema["description"] = text + ", ".join(column.parts) + "."
    if "type" not in schema:
        return schema
    return schema | ({"type": [schema["type"], "null"]} if column.nullable else {})


def _tensor(column: Column, shape: tuple[int, ...]) -> Json:
    """Return the schema of one row of a tensor: nested arrays, with their lengths where these are fixed."""
    if not shape:
        return _cell(column)
    length = {} if shape[0] == -1 else {"minItems": shape[0], "maxItems": shape[0]}
    return {"type": "array", "items": _tensor(column, shape[1:])} | length


def _tuple(items: list[Json]) -> Json:
    return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items), "maxItems": len(items)}


def _object(title: str, description: str, **properties: Json) -> Json:
    """Return the schema of an object with exactly these members."""
    schema = {"type": "object", "title": title, "description": description, "properties": properties}
    return schema | {"required": list(properties), "additionalProperties": False}


def ref(name: str) -> dict[str, str]:
    """Return a reference to a schema of the OpenAPI document."""
    return {"$ref": f"#/components/schemas/{name}"}
