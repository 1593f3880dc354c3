"""What people send in the tests of the laws: tables, labels, images, whole and broken."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.make import csv_table, draw_image

RECORDS = ("a", "b", "c")
SEEDS = 4  # different images


@dataclass(frozen=True)
class Row:
    record: str
    age: str
    label: str = ""
    names: str = ""  # the path of its image, as the column says it


@dataclass(frozen=True)
class Photo:
    record: str
    number: int
    seed: int
    decodes: bool = True

    @property
    def name(self) -> str:
        """Of a path (`p/x`) that holds no ID, the path."""
        if "/" in self.record:
            return f"{self.record}.png"
        return f"{self.record}-{self.number}.png"

    @property
    def data(self) -> bytes:
        whole = draw_image(self.seed)
        return whole if self.decodes else whole[:-20]


@dataclass(frozen=True)
class Upload:
    """One delivery: a table with rows, one with labels only, and images."""

    kind: str
    rows: tuple[Row, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    photos: tuple[Photo, ...] = ()

    @property
    def files(self) -> dict[str, bytes]:
        files = {photo.name: photo.data for photo in self.photos}
        if self.rows:
            cells = [(r.record, r.age, r.label, r.names) for r in self.rows]
            files["rows.csv"] = csv_table(["id", "age", "label", "photo"], cells)
        if self.labels:
            files["labels.csv"] = csv_table(["id", "label"], self.labels)
        return files


IDS = st.sampled_from(RECORDS)
LABEL = st.sampled_from(["cat", "dog"])
AGE = st.sampled_from(["1", "2", "3", "x"])  # "x" is rejected; some wordings say "3" is missing
MOSTLY = st.sampled_from([True, True, True, False])
PATHS = ("p/x", "q/x", "r/y")  # two of one name
CELLS = st.sampled_from(["", "", "x.png", "p/x.png", "y.png"])
rows = st.builds(Row, IDS, AGE, st.just("") | LABEL | st.just(""), CELLS)
photos = st.builds(
    Photo, IDS | st.sampled_from(PATHS), st.integers(1, 2), st.integers(0, SEEDS - 1), MOSTLY
)
uploads = st.builds(
    Upload,
    st.sampled_from(["zip", "folder"]),
    st.lists(rows, max_size=4).map(tuple),
    st.lists(st.tuples(IDS, LABEL), max_size=2).map(tuple),
    st.lists(photos, max_size=3, unique_by=lambda photo: photo.name).map(tuple),
).filter(lambda upload: upload.files)
