"""The contract of a registered version."""

import json
from pathlib import Path

import pytest
import yaml

from app.model.contract import CONTRACT_FILE, Contract, ContractColumn
from training.tracking.registered import read_contract


def test_columns_come_from_the_signature_when_the_contract_names_none(tmp_path: Path) -> None:
    contract = Contract(task="binary", target="left", classes=("stays", "leaves"))
    (tmp_path / CONTRACT_FILE).write_text(contract.model_dump_json())
    inputs = [{"type": "long", "name": "age", "required": True}]
    (tmp_path / "MLmodel").write_text(yaml.safe_dump({"signature": {"inputs": json.dumps(inputs)}}))

    assert read_contract(tmp_path).columns == (ContractColumn(name="age", type="long"),)

    (tmp_path / "MLmodel").write_text(yaml.safe_dump({"flavors": {}}))
    with pytest.raises(ValueError, match="no signature with column names"):
        read_contract(tmp_path)
