"""Say in JSON Schema what a model takes and answers; what a caller may send is decided in app.signature."""

from dataclasses import replace
from typing import Any

from app.columns import Column
from app.model import Model
from app.output import Output

Json = dict[str, Any]

# Of values that are no numbers. What MLflow's own types hold is checked by MLflow.
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


def predictions(model: Model | None) -> Json:
    """Return the answer of /predict."""
    items = _prediction(model.output) if model else {}
    return _object("Predictions", "", model=_model_name(), predictions={"type": "array", "items": items})


def explanations(model: Model | None) -> Json:
    """Return the answer of /explain."""
    number: Json = {"type": "number"}
    added: Json = {"type": "object", "additionalProperties": number}
    known: Json = {}
    if model:
        added = _object(
            "Contributions", "What each column adds to the base value.", **dict.fromkeys(model.signature.names, number)
        )
        if classes := model.output.margins(0):
            known = {
                "class": {"enum": [each["class"] for each in classes], "description": "For which the margin speaks."}
            }
    base = number | {"description": "The margin of a row of which nothing is known."}
    margin = number | {"description": "What the trees add up to, before the objective makes it the prediction."}
    output = _object("ExplainedOutput", "", **known, base_value=base, margin=margin, contributions=added)
    text = "One for each margin: each class of several, the second of two classes, each number of a prediction."
    outputs = {"type": "array", "items": output, "minItems": 1, "description": text}
    row = _object("Explanation", "", prediction=_prediction(model.output) if model else {}, outputs=outputs)
    return _object("Explanations", "", model=_model_name(), explanations={"type": "array", "items": row})


def labels(model: Model | None, most: int) -> Json:
    """Return the body of /feedback."""
    label: Json = {}
    if model:
        label = {"type": "number"} if model.output.form == "number" else {"enum": list(model.output.classes)}
    entry = _object("Label", "", token={"type": "string"}, label=label | {"description": "What turned out to be true."})
    return _object("Labels", "", labels={"type": "array", "items": entry, "minItems": 1, "maxItems": most})


def scored() -> Json:
    """Return the answer of /feedback."""
    rejected: Json = {"type": "array", "items": ref("CellProblem"), "description": "Which were not, and why."}
    accepted: Json = {"type": "integer", "description": "How many labels were scored."}
    return _object("Scored", "", accepted=accepted, rejected=rejected)


def records(model: Model | None, most: int) -> Json:
    """Return the body that has a value per column and row."""
    row: Json = {"type": "object"}
    if model:
        columns = model.signature.columns
        row |= {
            "properties": {column.name: _cell(column) for column in columns},
            "required": [column.name for column in columns if column.required],
            "additionalProperties": False,
        }
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": most}
    return _with_params(model, _object("Records", "A value per column and row.", instances=rows))


def split(model: Model | None, most: int) -> Json:
    """Return the body that has the columns once."""
    names: Json = {"type": "array", "items": {"type": "string"}}
    row: Json = {"type": "array"}
    if model:
        columns = model.signature.columns
        names = _tuple([{"const": column.name} for column in columns])
        row = _tuple([_cell(column) for column in columns])
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": most}
    text = (
        "The columns once, then the values: the fast form for many rows. "
        "Another order is taken as well, and columns that are not required may be left out."
    )
    return _with_params(model, _object("Split", text, columns=names, data=rows))


def _with_params(model: Model | None, form: Json) -> Json:
    """Add the parameters of the model's own, if it takes any."""
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
    return _object("ModelName", "The model that answered.", name=text, version=text)


def _prediction(output: Output) -> Json:
    if output.form == "number":
        return {"type": "number"}
    if output.form == "numbers":
        return {"type": "array", "items": {"type": "number"}, "minItems": output.width, "maxItems": output.width}
    if output.form == "record":
        return _object(
            "Record", "The model's numbers and strings by their names.", **{name: {} for name in output.names}
        )
    label: Json = {"type": "string", "description": "The likeliest class."}
    if output.classes:
        label["enum"] = list(output.classes)
    if output.form == "label":
        return _object("ClassPrediction", "", label=label)
    share = {"type": "number", "minimum": 0, "maximum": 1}
    shares = _object("Probabilities", "Of each class.", **dict.fromkeys(output.classes, share))
    return _object("ClassPrediction", "", label=label, probabilities=shares)


def _cell(column: Column) -> Json:
    if column.categories:
        return {"enum": [*column.categories, *([None] if column.nullable else [])]}
    if column.shape:
        return _tensor(replace(column, shape=()), column.shape)
    if (schema := _OTHER_TYPES.get(column.type)) is None:
        low, high = column.bounds or (-column.largest, column.largest)
        schema = {"type": "integer" if column.bounds else "number", "minimum": low, "maximum": high}
    if "type" not in schema:
        return schema
    return schema | ({"type": [schema["type"], "null"]} if column.nullable else {})


def _tensor(column: Column, shape: tuple[int, ...]) -> Json:
    """Describe one row of a tensor: nested arrays, of the lengths that are known."""
    if not shape:
        return _cell(column)
    length = {} if shape[0] == -1 else {"minItems": shape[0], "maxItems": shape[0]}
    return {"type": "array", "items": _tensor(column, shape[1:])} | length


def _tuple(items: list[Json]) -> Json:
    return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items), "maxItems": len(items)}


def _object(title: str, description: str, **properties: Json) -> Json:
    """Return the schema of an object that has these members and no other."""
    schema = {"type": "object", "title": title, "description": description, "properties": properties}
    return schema | {"required": list(properties), "additionalProperties": False}


def ref(name: str) -> dict[str, str]:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}
