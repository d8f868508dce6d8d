"""Strategies of hypothesis for the files of a dataset: valid ones, perturbed in every way that
editors, converters and broken disks have.
"""

import gzip
import json
import struct

import numpy as np
import yaml
from hypothesis import strategies as st

SHAPE = (6, 5, 4)
VOXEL_SIZE = (1.0, 1.0, 2.0)  # mm

ODD_NUMBERS = (
    *(0, -0.0, -1, 1, 0.006, 6, 3, 123.2, 1e300, -1e300, 5e-324, 1e-9, 2**63, 10**30, 10**400),
    *(float("nan"), float("inf"), -float("inf"), True, False),
)
ODD_TEXTS = (
    *("", " ", "n/a", "nan", "inf", "1e400", "0.006", "01", "sub-01", "sub-02", "rad", "PHASE"),
    *("ü", "²", "٣", "\u202e", "\x00", "\x1b[2J", "\ud800", "😀" * 40, "a" * 5000, "9" * 5000),
    *("../../x", "a\nb", "a\tb", "=1+1", '"', "'", "*", "%s{0}", "\u2028", "\ufeff"),
)
NUMBERS = st.one_of(st.sampled_from(ODD_NUMBERS), st.floats(), st.integers())
TEXTS = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=8))
SCALARS = st.one_of(st.none(), NUMBERS, TEXTS)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=4),
    st.dictionaries(TEXTS, SCALARS, max_size=2),
    st.lists(st.lists(SCALARS, max_size=2), max_size=2),
)


# --- texts --------------------------------------------------------------------------------------


@st.composite
def saved(draw, text):
    """A text as an editor may have saved it, whole or damaged."""
    ending = draw(st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"]))
    encoding = draw(st.sampled_from(["utf-8"] * 9 + ["utf-8-sig", "utf-16", "latin-1", "utf-32"]))
    errors = "surrogatepass" if encoding.startswith("utf") else "replace"
    return draw(damaged(text.replace("\n", ending).encode(encoding, errors)))


@st.composite
def damaged(draw, content):
    """Bytes, mostly as they are; else cut, with flipped bits, or with more behind them."""
    kind = draw(st.sampled_from(["whole"] * 12 + ["cut", "flipped", "empty", "longer", "zeros"]))
    if kind == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if kind == "flipped" and content:
        spoilt = bytearray(content)
        for _ in range(draw(st.integers(1, 4))):
            spoilt[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))
        return bytes(spoilt)
    if kind == "empty":
        return b""
    if kind == "longer":
        return content + draw(st.binary(max_size=40))
    if kind == "zeros":
        return content + bytes(draw(st.integers(1, 600)))
    return content


# --- sidecars -----------------------------------------------------------------------------------

FIELDS = (
    *("EchoTime", "EchoNumber", "MagneticFieldStrength", "ImagingFrequency", "Units"),
    *("Manufacturer", "ManufacturersModelName", "SoftwareVersions", "DeviceSerialNumber"),
    *("RepetitionTime", "RepetitionTimeExcitation", "FlipAngle", "ImageType", "InstitutionName"),
    *("StationName", "CoilCombinationMethod", "PulseSequenceType", "ScanOptions", "Sources"),
)


@st.composite
def sidecars(draw, valid):
    """Return a sidecar: some fields of a valid one changed, left out, or given twice."""
    pairs = list(valid.items())
    for _ in range(draw(st.integers(0, 4))):
        field = draw(st.sampled_from(FIELDS))
        action = draw(st.sampled_from(["set", "set", "set", "set", "remove", "twice", "misspell"]))
        if action != "twice":
            pairs = [pair for pair in pairs if pair[0] != field]
        if action in ("set", "twice"):
            pairs.append((field, draw(VALUES)))
        elif action == "misspell":
            pairs.append((field.lower(), draw(SCALARS)))
    ascii_only = draw(st.booleans())
    members = []
    for field, value in pairs:
        members.append(f"{json.dumps(field)}: {json.dumps(value, ensure_ascii=ascii_only)}")
    text = "{" + ",\n ".join(members) + "}"
    frame = draw(st.sampled_from(["{}"] * 12 + ["[{}]", '{{"a": {}}}', "deep", "{},", "7", "null"]))
    if frame == "deep":
        depth = draw(st.sampled_from([10, 1000, 100_000]))
        text = '{"EchoTime": ' + "[" * depth + "]" * depth + "}"
    else:
        text = frame.format(text)
    return draw(saved(text))


# --- tables -------------------------------------------------------------------------------------

TABLES = {
    "participants.tsv": ("participant_id", "site", "age", "species", "sex", "scanner"),
    "sessions.tsv": ("session_id", "site", "scanner"),
    "dseg.tsv": ("index", "name", "susceptibility_ppm", "color"),
    "points.tsv": ("x", "y", "z", "name"),
    "phenotype.tsv": ("participant_id", "age", "score", "group"),
    "chi.tsv": ("roi", "mean", "sd", "unit", "site", "scan", "method", "reference", "subject"),
}
CELLS = st.one_of(
    st.sampled_from(["1", "2", "0", "-3", "1.5", "n/a", "sub-01", "01", "ses-A", "A", "csf"]),
    NUMBERS.map(lambda value: str(value) if abs(value) < 1e300 else repr(float("inf"))),
    TEXTS,
)


@st.composite
def tables(draw, columns):
    """Return a table with some of its columns, twice, in another order, or misspelt; ragged rows,
    quotes and other separators.
    """
    names = list(columns)
    change = draw(st.sampled_from(["none"] * 4 + ["remove", "twice", "permute", "more", "case"]))
    if change == "remove":
        names.remove(draw(st.sampled_from(columns)))
    elif change == "twice":
        names.append(draw(st.sampled_from(columns)))
    elif change == "permute":
        names = draw(st.permutations(names))
    elif change == "more":
        names.insert(draw(st.integers(0, len(names))), draw(TEXTS))
    elif change == "case":
        names = [name.upper() for name in names]
    rows = [names]
    for _ in range(draw(st.integers(0, 4))):
        n_cells = len(names) + draw(st.sampled_from([0] * 8 + [-1, 1, 5]))
        rows.append(draw(st.lists(CELLS, min_size=max(0, n_cells), max_size=max(0, n_cells))))
    separator = draw(st.sampled_from(["\t"] * 10 + [",", ";", " ", "\t\t"]))
    quote = draw(st.sampled_from([""] * 8 + ['"', "'"]))
    lines = [separator.join(f"{quote}{cell}{quote}" for cell in row) for row in rows]
    text = "\n".join(lines) + draw(st.sampled_from(["\n", "\n", "", "\n\n\n"]))
    return draw(saved(text))


# --- filters ------------------------------------------------------------------------------------

ENTITIES = (
    *("subject", "session", "task", "acquisition", "ceagent", "reconstruction", "run", "chunk"),
    *("echo", "part", "suffix", "datatype", "extension", "EchoTime", "Manufacturer", "Units"),
)
PASSED = {  # by all images of the dataset
    "subject": ["01", "02"],
    "session": None,
    "echo": [1, 2],
    "part": "*",
    "suffix": "MEGRE",
    "datatype": "anat",
    "extension": ".nii.gz",
    "Manufacturer": "Siemens",
}
BOMB = "x0: &x0 [a]\n"  # a small file that expands without end
for level in range(1, 12):
    BOMB += f"x{level}: &x{level} [{', '.join([f'*x{level - 1}'] * 9)}]\n"
OWN_OF_YAML = (  # what YAML can express and JSON cannot
    f"{BOMB}megre: {{run: *x11}}\n",
    "a: &a [x, x]\nmegre: {run: *a}\n",
    "megre: &a {run: [*a]}\n",
    "megre: {session: 2020-01-01}\n",
    "megre: {1: 2}\n",
    "1: {run: 1}\n",
    "megre: {run: !!set {1, 2}}\n",
    "megre: {run: !!binary aGFsbG8=}\n",
    "megre: {? [a, b] : c}\n",
    "megre: {run: !!python/object:os.system x}\n",
    "megre: {run: 1}\nmegre: {run: 2}\n",
    "megre: {run: .nan, echo: 0o7, part: yes}\n",
)


@st.composite
def filters(draw):
    """Return the name and the content of a filter file in JSON or YAML."""
    criteria = {}
    for entity in draw(st.lists(st.sampled_from(list(PASSED)), max_size=2)):
        criteria[entity] = PASSED[entity]
    for _ in range(draw(st.integers(0, 2))):
        entity = draw(st.one_of(st.sampled_from(ENTITIES), TEXTS))
        usual = st.sampled_from(["A", "01", 1, "1", [1, 2], "*", None, ["mag", "phase"], "MEGRE"])
        criteria[entity] = draw(usual if draw(st.integers(0, 2)) else VALUES)
    is_json = draw(st.booleans())
    content = {"megre": criteria}
    kind = draw(st.sampled_from(["usual"] * 9 + ["other query", "other criteria", "other content"]))
    if kind == "other query":
        content = {draw(st.one_of(st.sampled_from(["t1w", "bold"]), TEXTS)): criteria}
    elif kind == "other criteria":
        content = {"megre": draw(VALUES)}
    elif kind == "other content":
        content = draw(VALUES)
    if is_json:
        text = json.dumps(content, ensure_ascii=draw(st.booleans()))
    elif draw(st.integers(0, 5)) == 0:
        text = draw(st.sampled_from(OWN_OF_YAML))
    else:
        text = yaml.safe_dump(content, allow_unicode=draw(st.booleans()))
    return ("filter.json" if is_json else "filter.yaml"), draw(saved(text))


# --- images -------------------------------------------------------------------------------------

# Fields of a NIfTI-1 header that perturbations change: format and offset.
SHORTS = {
    **{f"dim[{n}]": 40 + 2 * n for n in range(8)},
    **{"intent_code": 68, "datatype": 70, "bitpix": 72, "qform_code": 252, "sform_code": 254},
}
FLOATS = {
    **{f"pixdim[{n}]": 76 + 4 * n for n in range(8)},
    **{"vox_offset": 108, "scl_slope": 112, "scl_inter": 116, "cal_max": 124, "cal_min": 128},
    **{f"quatern[{n}]": 256 + 4 * n for n in range(6)},
    **{f"srow[{n}]": 280 + 4 * n for n in range(12)},
}
DATATYPES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304)
SHORT_VALUES = st.one_of(
    st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, -1, 100, 1000, 32767, -32768, *DATATYPES]),
    st.integers(-32768, 32767),
)
FLOAT_VALUES = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 352.0, 348.0, 0.5, 1e-30, 1e30, 3e38, 1e-45, 2.0, 1e4, 353.5]),
    st.sampled_from([float("nan"), float("inf"), -float("inf")]),
    st.floats(width=32),
)
VOXELS = {
    "random": lambda random: random.uniform(-3.1, 3.1, SHAPE),
    "positive": lambda random: random.uniform(50, 100, SHAPE),
    "integers": lambda random: random.integers(0, 4095, SHAPE).astype(float),
    "labels": lambda random: random.integers(0, 3, SHAPE).astype(float),
    "binary": lambda random: (random.random(SHAPE) > 0.4).astype(float),
    "zeros": lambda random: np.zeros(SHAPE),
    "huge": lambda random: random.uniform(-3e38, 3e38, SHAPE),
    "tiny": lambda random: random.uniform(0, 1e-40, SHAPE),
    "holes": lambda random: np.where(random.random(SHAPE) > 0.5, np.nan, random.random(SHAPE)),
    "infinite": lambda random: np.where(random.random(SHAPE) > 0.9, np.inf, random.random(SHAPE)),
    "all missing": lambda random: np.full(SHAPE, np.nan),
}
STORED = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 512: "u2"}  # data type by its code


def header(datatype, order="<"):
    """Return a valid NIfTI-1 header with its flag of extensions, as bytes that can be changed."""
    content = bytearray(352)

    def put(kind, offset, *values):
        struct.pack_into(f"{order}{len(values)}{kind}", content, offset, *values)

    bits = 8 * np.dtype(STORED[datatype]).itemsize
    put("i", 0, 348)
    put("h", 40, 3, *SHAPE, 1, 1, 1, 1)
    put("h", 70, datatype, bits)
    put("f", 76, 1, *VOXEL_SIZE, 0, 0, 0, 0)
    put("f", 108, 352, 1, 0)
    content[123] = 10  # mm and s
    put("h", 252, 1, 1)
    put("f", 256, 0, 0, 0, -3, -2, -4)
    put("f", 280, 1, 0, 0, -3, 0, 1, 0, -2, 0, 0, 2, -4)
    content[344:348] = b"n+1\0"
    return content


def image_bytes(values, datatype=16, order="<", edits=()):
    """Return an uncompressed image; `edits` are pairs of a header's field and a value."""
    content = header(datatype, order)
    for field, value in edits:
        kind, offset = ("h", SHORTS[field]) if field in SHORTS else ("f", FLOATS[field])
        struct.pack_into(f"{order}{kind}", content, offset, value)
    stored = np.dtype(STORED[datatype]).newbyteorder(order)
    with np.errstate(all="ignore"):
        voxels = np.nan_to_num(values) if stored.kind in "iu" else values
        return bytes(content) + voxels.astype(stored).tobytes(order="F")


EDITS = st.one_of(
    st.tuples(st.sampled_from(list(SHORTS)), SHORT_VALUES),
    st.tuples(st.sampled_from(list(FLOATS)), FLOAT_VALUES),
)


@st.composite
def images(draw, kinds=tuple(VOXELS), compressed=None):
    """Return whether an image is compressed (by chance if `compressed` is None), and its bytes."""
    kind = draw(st.sampled_from([kinds[0]] * len(kinds) + list(kinds)))
    values = VOXELS[kind](np.random.default_rng(draw(st.integers(0, 9))))
    datatype = draw(st.sampled_from([16] * 5 + list(STORED)))
    order = draw(st.sampled_from("<<<<>"))
    edits = draw(st.lists(EDITS, max_size=3))
    content = image_bytes(values, datatype, order, edits)
    if draw(st.integers(0, 9)) == 0:
        size = draw(st.sampled_from([0, 1, 8, 16, 32, -1, 2**31 - 1, -(2**31)]))
        extension = struct.pack(f"{order}ii", size, draw(st.sampled_from([0, 2, 4, 6, -1, 999])))
        content = content[:348] + b"\1\0\0\0" + extension + bytes(8) + content[352:]
    content = draw(damaged(content))
    if compressed is None:
        compressed = draw(st.integers(0, 3)) > 0
    if not compressed:
        return False, content
    packed = gzip.compress(content, compresslevel=1, mtime=0)
    if draw(st.integers(0, 9)) == 0:
        packed += draw(st.sampled_from([packed, b"\0" * 9, b"\x1f\x8b\x08", b"x"]))
    return True, draw(damaged(packed))
