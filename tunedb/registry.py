"""Cost models in the database: trained once, named, and tied to exactly the trials they were trained on.

Trees are stored as XGBoost's own UBJSON, networks as safetensors. An exported file has a line of JSON before them with
the rest of the row.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select, true, update

from tunedb import dialect
from tunedb.errors import NotFoundError
from tunedb.tables import MODEL
from tuner.canonical import fingerprint
from tuner.cost_model.global_model import GlobalModel, Kind, ModelError, Settings
from tuner.cost_model.held_out import HeldOut
from tuner.cost_model.training import TrainingSet
from tuner.features.invariant import VERSION
from tuner.features.representations import REPRESENTATIONS, representation
from tuner.transfer import Seen

FORMAT = "tunedb-model/2"  # of an exported file; the first did not hash what it says of the model
_NEWEST = (MODEL.c.created.desc(), MODEL.c.id.desc())
_LOG = logging.getLogger("tunedb")


@dataclass(frozen=True)
class Basis:
    """What a later warm start has to know of a model's training, so that no trial has to be read for it."""

    chosen: int  # trials, before those were left out that cannot be lowered
    targets: tuple[str, ...]  # fingerprints, sorted
    left_out: Mapping[str, int]  # of the chosen, by reason
    seen: Seen

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Basis":
        seen = {**data["seen"], "low": tuple(data["seen"]["low"]), "high": tuple(data["seen"]["high"])}
        return cls(data["chosen"], tuple(data["targets"]), data["left_out"], Seen(**seen))


@dataclass(frozen=True)
class StoredModel:
    """A row of the table ``model``; ``blob`` is the model itself."""

    name: str
    feature_version: str
    training_digest: str  # SHA-256 over the sorted fingerprints of the trials it was trained on
    parameters: Mapping[str, Any]  # settings, rounds, number of trials, workloads
    held_out: tuple[HeldOut, ...]
    blob: bytes
    created: datetime

    @property
    def fingerprint(self) -> str:
        """Identity of the content; the name and the date are not part of it."""
        return fingerprint({"features": self.feature_version, "trials": self.training_digest, "file": self.sha256})

    @property
    def kind(self) -> Kind:
        """The first models were all trees, and did not say so."""
        kind: Kind = self.parameters.get("model", "gbt")
        return kind

    @property
    def basis(self) -> Basis:
        """Raises KeyError for the model of a program that did not keep it; ``of_nearly`` finds none of those."""
        return Basis.from_json(self.parameters["basis"])

    @property
    def sha256(self) -> str:
        """Hash of the stored file."""
        return hashlib.sha256(self.blob).hexdigest()

    def model(self) -> GlobalModel:
        """The trained model.

        Raises ModelError when it was trained on features that this program does not have, TorchMissingError when it is
        a neural one and PyTorch is missing.
        """
        name = self.feature_version.partition("/")[0]
        known = REPRESENTATIONS[name].version if name in REPRESENTATIONS else "none of that name"
        if self.feature_version != known:
            raise ModelError(
                f"model {self.name} was trained on features {self.feature_version}, this program has {known}: "
                f"train it again with `tunedb model train --name {self.name}`"
            )
        read = GlobalModel.from_bytes(self.blob, self.kind, self.parameters["used_rounds"], name)
        return replace(read, held_out=self.held_out)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "feature_version": self.feature_version,
            "training_digest": self.training_digest,
            "parameters": {name: value for name, value in self.parameters.items() if name != "basis"},
            "held_out": [asdict(one) for one in self.held_out],
            "sha256": self.sha256,
            "bytes": len(self.blob),
            "created": self.created.isoformat(),
        }


def pack(
    name: str, model: GlobalModel, digest: str, settings: Settings, data: TrainingSet, basis: Basis
) -> StoredModel:
    """A model trained on ``data`` as it is stored. Equal models give equal files, whenever they were trained."""
    parameters = {
        **pack_settings(settings),
        "used_rounds": model.rounds,
        "trials": len(data.seconds),
        "workloads": sorted(set(data.workloads)),
        "basis": asdict(basis),
    }
    version = representation(data.representation).version
    return StoredModel(name, version, digest, parameters, model.held_out, model.to_bytes(), datetime.now(UTC))


def write_file(stored: StoredModel) -> bytes:
    """A model as a file: a line of JSON that says all of it but the model and has both hashes, then the model."""
    about = {
        "format": FORMAT,
        "feature_version": stored.feature_version,
        "training_digest": stored.training_digest,
        "parameters": dict(stored.parameters),
        "held_out": [asdict(one) for one in stored.held_out],
        "created": stored.created.isoformat(),
        "sha256": stored.sha256,
    }
    return json.dumps({**about, "about_sha256": _hash(about)}, sort_keys=True).encode() + b"\n" + stored.blob


def _hash(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def read_file(name: str, data: bytes) -> StoredModel:
    """The model that ``write_file`` wrote. Raises ModelError when it is damaged, or of other features.

    The hashes are compared before XGBoost sees the trees: it ends the process when it is given others. A network is
    read when it is used, so that it can be kept where PyTorch is missing.
    """
    line, _, blob = data.partition(b"\n")
    try:
        about = json.loads(line)
        if about.pop("about_sha256") != _hash(about) or about["sha256"] != hashlib.sha256(blob).hexdigest():
            raise ValueError("a hash is another one")
        if about["format"] != FORMAT:
            raise ValueError("the format is another one")
        stored = StoredModel(
            name=name,
            feature_version=about["feature_version"],
            training_digest=about["training_digest"],
            parameters=about["parameters"],
            held_out=tuple(HeldOut(**one) for one in about["held_out"]),
            blob=blob,
            created=datetime.fromisoformat(about["created"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError("it is no model that `tunedb model export` has written, or a damaged one") from error
    if stored.kind == "gbt":
        stored.model()
    return stored


def save(connection: Connection, stored: StoredModel) -> tuple[StoredModel, bool]:
    """Keep a model: as it is kept, and whether it was not there already. Of several of one name the newest counts.

    A model that is there keeps its name and date; one that is damaged gets its content back.
    """
    values = {
        "fingerprint": stored.fingerprint,
        "name": stored.name,
        "feature_version": stored.feature_version,
        "training_digest": stored.training_digest,
        "parameters": dict(stored.parameters),
        "scores": {"held_out": [asdict(one) for one in stored.held_out]},
        "blob_sha256": stored.sha256,
        "blob": stored.blob,
        "created": stored.created,
    }
    if dialect.insert_if_new(connection, MODEL, values) is not None:
        return stored, True
    there = MODEL.c.fingerprint == stored.fingerprint
    try:
        return read_model(connection.execute(select(MODEL).where(there)).one()), False
    except ModelError:
        connection.execute(update(MODEL).where(there).values(values))
        return stored, True


def models(connection: Connection) -> Sequence[StoredModel]:
    """All models, the newest first."""
    return list(_sound(connection, connection.scalars(select(MODEL.c.id).order_by(*_NEWEST)).all()))


def find(connection: Connection, name: str) -> StoredModel:
    """The newest model of that name, or the one whose fingerprint begins so. Raises NotFoundError, ModelError."""
    known = connection.execute(select(MODEL.c.id, MODEL.c.name, MODEL.c.fingerprint).order_by(*_NEWEST)).all()
    for row in known:
        if row.name == name or (len(name) >= 6 and row.fingerprint.startswith(name)):
            return read_model(connection.execute(select(MODEL).where(MODEL.c.id == row.id)).one())
    names = ", ".join(sorted({row.name for row in known})) or "none; train one with `tunedb model train`"
    raise NotFoundError(f"there is no model {name!r}; stored are: {names}")


def of_training(connection: Connection, digest: str, settings: Settings) -> StoredModel | None:
    """A model that was trained on exactly these trials with these settings, if one is stored."""
    return next(_suitable(connection, MODEL.c.training_digest == digest, settings), None)


def of_nearly(
    connection: Connection, digest: str, number: int, targets: Set[str], share: float, settings: Settings
) -> StoredModel | None:
    """The model of exactly these trials, else the newest of at least such a share of their number, of these targets."""
    if exact := of_training(connection, digest, settings):
        return exact
    for stored in _suitable(connection, true(), settings):
        if share * number <= stored.basis.chosen <= number and set(stored.basis.targets) == targets:
            return stored
    return None


def _suitable(connection: Connection, which: ColumnElement[bool], settings: Settings) -> Iterator[StoredModel]:
    """The newest first."""
    statement = select(MODEL.c.id, MODEL.c.parameters).where(which, MODEL.c.feature_version == VERSION)
    wanted = pack_settings(settings)
    yield from _sound(
        connection,
        [
            id
            for id, parameters in connection.execute(statement.order_by(*_NEWEST)).all()
            if "basis" in parameters and all(parameters.get(name) == value for name, value in wanted.items())
        ],
    )


def newest(connection: Connection) -> StoredModel | None:
    """The newest model on invariant features, which are those that a whole space is scored with."""
    statement = select(MODEL.c.id).where(MODEL.c.feature_version == VERSION).order_by(*_NEWEST)
    return next(_sound(connection, connection.scalars(statement).all()), None)


def _sound(connection: Connection, ids: Sequence[int]) -> Iterator[StoredModel]:
    """The models of these rows. A damaged one is as good as none, with a warning: its trials give it again."""
    for id in ids:
        try:
            yield read_model(connection.execute(select(MODEL).where(MODEL.c.id == id)).one())
        except ModelError as error:
            _LOG.warning("%s", error)


def pack_settings(settings: Settings) -> dict[str, Any]:
    """Settings as JSON without floats, whose text depends on the writer."""
    return {name: repr(value) if isinstance(value, float) else value for name, value in settings.to_json().items()}


def read_model(row: Row[Any]) -> StoredModel:
    """The model of a row. Raises ModelError when it is damaged."""
    stored = StoredModel(
        name=row.name,
        feature_version=row.feature_version,
        training_digest=row.training_digest,
        parameters=row.parameters,
        held_out=tuple(HeldOut(**one) for one in row.scores.get("held_out", ())),
        blob=row.blob,
        created=row.created,
    )
    if stored.sha256 != row.blob_sha256:
        raise ModelError(f"model {row.name} is damaged in the database: train it again with `tunedb model train`")
    return stored
