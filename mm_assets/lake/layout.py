"""Where things lie in the lake: every key is made here and nowhere else.

inbox/<dataset>/NAME.zip (.tar.gz, .7z …) | NAME/…               what people drop
received/<dataset>/NAME/<upload>/…               the same, moved out of the inbox once received
datasets/<dataset>/pending/<upload>.json         seen, but its predictions are not in the table yet
datasets/<dataset>/set_aside/<upload>.json       tried in vain; waits for `mm retry`
datasets/<dataset>/messages/<digest>.json        the upload that a message's records became
datasets/<dataset>/outbox/<note>.parquet         what is still to be told of predictions
datasets/<dataset>/withdrawn/<upload>.json       taken back by a person: nothing of it counts
datasets/<dataset>/taken_back/<upload>.json      withdrawn, and gone from the table
datasets/<dataset>/pins/<backfill>.json          the champions that a backfill predicts with
datasets/<dataset>/uploads/<upload>/…            what became of one upload
datasets/<dataset>/uploads/<upload>/embeddings/<backbone>/<hash>.parquet
                                                 what a backbone made of images (uploads/vectors.py)
datasets/<dataset>/uploads/<upload>/fetched-<round>.json
                                                 what lay at addresses that its rows name, as it
                                                 was fetched (uploads/fetched.py)
datasets/<dataset>/uploads/<upload>/likenesses.json
                                                 by which copies of its images are found, made
                                                 later (uploads/likenesses.py)
datasets/<dataset>/training_set.json             the newest training set
datasets/<dataset>/recalibration.json            the records of the newest recalibration
datasets/<dataset>/image_homes.json              where what is known of its images lies
datasets/<dataset>/models/<modality>/…           trained models and promotions
datasets/<dataset>/tuning/<modality>/<study>/…   one document for each trial
datasets/<dataset>/monitoring.json               the pictures
datasets/<dataset>/answers/…                     a copy of all answers in columns, where the table
                                                 is DynamoDB (tables/answers.py)
datasets/<dataset>/joined/…                      a note for each manifest that is yet to be counted
datasets/<dataset>/refused/<n>.json              what was refused of the newest uploads
datasets/<dataset>/review/…                      answers that people give on the page (review/)
datasets/<dataset>/specs/<generation>.json       each wording of the YAML that was used
"""

from __future__ import annotations

from mm_assets.contract.modality import Modality

INBOX = "inbox"
MARKER = "upload.json"
SIZE_MARKER = "upload_size.json"
INBOX_NOTE = "inbox"  # the objects of a delivery, and whether they were moved out of the inbox
MANIFEST = "manifest"
TRAINING_SET = "training_set"


def inbox(dataset: str) -> str:
    """The prefix where a dataset's uploads arrive."""
    return f"{INBOX}/{dataset}/"


def received(dataset: str, name: str, upload: str = "") -> str:
    """The prefix where the deliveries of one name, or one of them, lie once they were received."""
    return f"received/{dataset}/{name}/{upload}/" if upload else f"received/{dataset}/{name}/"


def pending_prefix(dataset: str) -> str:
    return f"{dataset_prefix(dataset)}pending/"


def set_aside_prefix(dataset: str) -> str:
    return f"{dataset_prefix(dataset)}set_aside/"


def messages_prefix(dataset: str) -> str:
    return f"{dataset_prefix(dataset)}messages/"


def outbox_prefix(dataset: str) -> str:
    return f"{dataset_prefix(dataset)}outbox/"


def withdrawn_prefix(dataset: str) -> str:
    return f"{dataset_prefix(dataset)}withdrawn/"


def taken_back_prefix(dataset: str) -> str:
    return f"{dataset_prefix(dataset)}taken_back/"


def joined_prefix(dataset: str) -> str:
    return f"{dataset_prefix(dataset)}joined/"


def answers_prefix(dataset: str) -> str:
    return f"{dataset_prefix(dataset)}answers/"


def refused_prefix(dataset: str) -> str:
    return f"{dataset_prefix(dataset)}refused/"


def dataset_prefix(dataset: str) -> str:
    return f"datasets/{dataset}/"


def uploads_prefix(dataset: str) -> str:
    return f"{dataset_prefix(dataset)}uploads/"


def is_of_an_upload(key: str) -> bool:
    """Whether an object lies below `uploads_prefix` of a dataset."""
    return key.startswith("datasets/") and key.split("/", 3)[2:3] == ["uploads"]


def of_upload(dataset: str, upload: str, name: str) -> str:
    """The pointer document `name` of one upload: source, raw_uploads, manifest, …"""
    return f"{uploads_prefix(dataset)}{upload}/{name}.json"


def records_name(modality: Modality) -> str:
    """The records of an upload that the model of a modality will see."""
    return f"records_{modality.value}"


def predictions_name(modality: Modality) -> str:
    """What the model of a modality said of an upload."""
    return f"predictions_{modality.value}"


def unmerged_prefix(dataset: str, upload: str) -> str:
    """Where each run notes what it said of an upload, until that is in the table.

    The document of an asset is the one that was written last; of two runs of one upload at the
    same moment that is perhaps not the one with the newer champion.
    """
    return f"{uploads_prefix(dataset)}{upload}/unmerged/"


def embeddings_prefix(dataset: str, upload: str, backbone: str) -> str:
    """What a backbone, named by its identity, made of images that have their home in an upload.

    <32 digits of the file's sha256>.parquet: sha256 of the normalised image, and its vector in
    float16, sorted by the sha256. Each file is written once.
    """
    return f"{uploads_prefix(dataset)}{upload}/embeddings/{backbone}/"


def review_prefix(dataset: str) -> str:
    """kept/ and sent/: answers that people gave one at a time. leases/: who is shown what."""
    return f"{dataset_prefix(dataset)}review/"


def of_dataset(dataset: str, name: str) -> str:
    """A pointer document of the whole dataset: training_set, monitoring."""
    return f"{dataset_prefix(dataset)}{name}.json"


def published_key(pointer: str, name: str, sha256: str) -> str:
    """Where `Lake.publish` keeps the file `name` of a pointer document."""
    folder, (stem, dot, suffix) = pointer.rpartition("/")[0], name.partition(".")
    return f"{folder}/{stem}-{sha256[:16]}{dot}{suffix}"
