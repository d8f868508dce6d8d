"""Ways in which a subject's files can be damaged: each a function that spoils some and returns
their names.
"""

import gzip
import io
import json
import re
import shutil
from itertools import cycle, islice

import nibabel as nib
import numpy as np
from scipy.ndimage import binary_dilation

from multiqsm.core.grid import voxel_size_of

FIELDS = ("EchoTime", "MagneticFieldStrength", "ImagingFrequency", "Units", "Manufacturer")
WRONG_VALUES = {
    "string": "six",
    "list": [0.006],
    "null": None,
    "negative": -1,
    "huge": 1e300,
    "zero": 0,
    "object": {"a": 1},
    "true": True,
}


class Subject:
    """Files of one subject of a dataset, and chance to choose among them."""

    def __init__(self, root, label):
        self.root = root
        self.label = label
        self.anat = root / f"sub-{label}" / "anat"
        self.rater = root / "derivatives" / "rater" / f"sub-{label}" / "anat"
        self.labels = self.rater / f"sub-{label}_run-1_dseg.nii.gz"
        self.lookup = self.rater / f"sub-{label}_run-1_dseg.tsv"
        self.mask = self.rater / f"sub-{label}_run-1_desc-brain_mask.nii.gz"
        self.participants = root / "participants.tsv"

    def images(self, part="*"):
        return sorted(self.anat.glob(f"*part-{part}_MEGRE.nii.gz"))

    def sidecars(self, part="*"):
        return sorted(self.anat.glob(f"*part-{part}_MEGRE.json"))

    def echo(self, part, echo):
        return self.images(part)[echo - 1]


def draw(n, having=""):
    """As many as asked for, as (name, function of a subject and chance): all kinds in turn, or
    evenly some of them.

    Only kinds that have a text in their names are drawn.
    """
    kinds = [(name, mutate) for name, mutate in KINDS.items() if having in name]
    if n < len(kinds):
        return [kinds[place * len(kinds) // n] for place in range(n)]
    return list(islice(cycle(kinds), n))


def one(paths, chance):
    return paths[int(chance.integers(len(paths)))]


# --- bytes of any file --------------------------------------------------------------------------


def truncated(content, chance):
    return content[: int(chance.integers(1, len(content)))]


def emptied(content, chance):
    return b""


def noise(content, chance):
    return chance.bytes(len(content))


def flipped(content, chance, *, first=0, last=None, n=4):
    """Some bits of a part of the content the other way round."""
    spoilt = bytearray(content)
    for _ in range(n):
        spoilt[int(chance.integers(first, last or len(content)))] ^= 1 << int(chance.integers(8))
    return bytes(spoilt)


def in_the_middle(content, chance):
    return flipped(content, chance, first=len(content) // 4, last=3 * len(content) // 4)


def unpacked(content, chance):
    return gzip.decompress(content)


def header_flipped(content, chance):
    return gzip.compress(
        flipped(gzip.decompress(content), chance, last=348, n=int(chance.integers(1, 5)))
    )


def voxels_cut(content, chance):
    """A whole gzip file of an image that is not."""
    return gzip.compress(truncated(gzip.decompress(content), chance))


def trailing(content, chance):
    return content + chance.bytes(100)


def in_two_members(content, chance):
    plain = gzip.decompress(content)
    cut = int(chance.integers(1, len(plain)))
    return gzip.compress(plain[:cut]) + gzip.compress(plain[cut:])


def of_bytes(change, choose):
    """Damage the bytes of one file that `choose` names or lists."""

    def mutate(subject, chance):
        chosen = choose(subject)
        path = one(chosen, chance) if isinstance(chosen, list) else chosen
        path.write_bytes(change(path.read_bytes(), chance))
        return path.name

    return mutate


# --- images -------------------------------------------------------------------------------------


def rewrite(path, data=None, affine=None, **header):
    """Write an image anew with another content, in its place; `header` sets fields after all
    else.
    """
    old = nib.load(path)
    data = np.asarray(old.dataobj) if data is None else data
    image = nib.Nifti1Image(data, old.affine)
    for set_form in (image.set_qform, image.set_sform):
        set_form(old.affine, "scanner")
    content = bytearray(image.to_bytes())
    if affine is not None:
        header |= {
            "qform_code": 0,
            **dict(zip(("srow_x", "srow_y", "srow_z"), affine, strict=False)),
        }
        header["pixdim"] = np.array([1, *voxel_size_of(affine), 0, 0, 0, 0])
    if header:
        changed = image.header_class.from_fileobj(io.BytesIO(content), check=False)
        for name, value in header.items():
            changed[name] = value
        block = changed.binaryblock
        content[: len(block)] = block
    path.write_bytes(gzip.compress(bytes(content)))


def of_voxels(change, part="*", every=False):
    """Give one image, or every image of a part, other voxels."""

    def mutate(subject, chance):
        paths = subject.images(part)
        for path in paths if every else [one(paths, chance)]:
            named = path
            rewrite(path, change(nib.load(path).get_fdata(dtype=np.float32), chance))
        return subject_name(subject) if every else named.name

    return mutate


def of_header(part="*", every=False, **choices):
    """Set one field of the header, as stored, to one of some values."""

    def mutate(subject, chance):
        paths = subject.images(part)
        picked = {
            name: values[int(chance.integers(len(values)))] for name, values in choices.items()
        }
        for path in paths if every else [one(paths, chance)]:
            named = path
            fields = {
                name: value(nib.load(path).header) if callable(value) else value
                for name, value in picked.items()
            }
            rewrite(path, **fields)
        return subject_name(subject) if every else named.name

    return mutate


def of_forms(change):
    """Change the header's two forms in every image, and in the labels that were drawn on them, by
    one angle.
    """

    def mutate(subject, chance):
        degrees = chance.uniform(10, 40)
        for path in [*subject.images(), subject.labels]:
            rewrite(path, **change(nib.load(path).header, degrees))
        return subject_name(subject)

    return mutate


def turned_sform(header, degrees, **codes):
    """An sform that is turned about the first axis."""
    turn = np.eye(4)
    angle = np.radians(degrees)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    rows = turn @ header.get_sform()
    return {**codes, **dict(zip(("srow_x", "srow_y", "srow_z"), rows, strict=False))}


def shift(chance):
    """Some millimetres along the first axis, to be added to an affine."""
    moved = np.zeros((4, 4))
    moved[0, 3] = chance.uniform(3, 30)
    return moved


def of_affine(change, every):
    def mutate(subject, chance):
        paths = subject.images()
        for path in paths if every else [one(paths, chance)]:
            named = path
            rewrite(path, affine=change(nib.load(path).affine, chance))
        return subject_name(subject) if every else named.name

    return mutate


def subject_name(subject):
    return f"sub-{subject.label}"


def block_of(value):
    def change(data, chance):
        corner = [int(chance.integers(n // 3, n // 2)) for n in data.shape]
        data[tuple(slice(c, c + 3) for c in corner)] = value
        return data

    return change


def dims(index, change):
    def value(header):
        changed = np.array(header["dim"])
        changed[index] = change(changed[index])
        return changed

    return value


def stacked(subject, chance):
    path = one(subject.images(), chance)
    data = nib.load(path).get_fdata(dtype=np.float32)
    rewrite(path, np.stack([data, data], axis=-1))
    return path.name


def exchanged(pairs):
    """Exchange the content of files, two by two."""

    def mutate(subject, chance):
        for first, second in pairs(subject):
            contents = first.read_bytes(), second.read_bytes()
            first.write_bytes(contents[1])
            second.write_bytes(contents[0])
        return subject_name(subject)

    return mutate


def of_another(part, echoes):
    """Put another subject's images under this one's names."""

    def mutate(subject, chance):
        for echo in echoes or [int(chance.integers(1, 4))]:
            path = subject.echo(part, echo) if part != "all" else None
            for own in [path] if path else [subject.echo(name, echo) for name in ("mag", "phase")]:
                name = own.name.replace(f"sub-{subject.label}", "sub-01")
                shutil.copyfile(subject.root / "sub-01" / "anat" / name, own)
        return subject_name(subject)

    return mutate


def copied_echo(part):
    def mutate(subject, chance):
        first, second = chance.permutation([1, 2, 3])[:2]
        shutil.copyfile(subject.echo(part, first), subject.echo(part, second))
        return subject_name(subject)

    return mutate


def echoes_as_runs(subject, chance):
    """Name the echoes of the scan as a converter does that knows no echo number."""
    for path in [*subject.images(), *subject.sidecars()]:
        echo = path.name.split("_echo-")[1][0]
        name = path.name.replace("_run-1_", f"_run-{echo}_").replace(f"_echo-{echo}_", "_")
        path.rename(path.with_name(name.replace("MEGRE", "T2starw")))
    return subject_name(subject)


def dangling(subject, chance):
    path = one(subject.images(), chance)
    path.unlink()
    path.symlink_to("/nowhere/annex/object")
    return path.name


def folder_instead(choose):
    def mutate(subject, chance):
        path = one(choose(subject), chance)
        path.unlink()
        path.mkdir()
        return path.name

    return mutate


def gone(choose):
    def mutate(subject, chance):
        path = one(choose(subject), chance)
        path.unlink()
        return (
            f"{path.name}, {path.name.replace('_part-mag', '_part-phase')}, {subject_name(subject)}"
        )

    return mutate


# --- phase encodings, real and imaginary parts --------------------------------------------------


def unsigned(phase):
    return np.rint((phase + np.pi) / (2 * np.pi) * 4095)


def signed(phase):
    return 2 * np.rint(phase / np.pi * 2047)


def encoded(*encodings, units="arbitrary"):
    """Store the phase of each echo in an encoding of its own."""

    def mutate(subject, chance):
        for path, encode in zip(
            subject.images("phase"), chance.permutation(encodings), strict=True
        ):
            rewrite(path, encode(nib.load(path).get_fdata(dtype=np.float32)).astype(np.float32))
        for path in subject.sidecars("phase"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"Units": units}))
        return subject_name(subject)

    return mutate


def in_parts(change):
    """Bring real and imaginary images in place of magnitude and phase; `change` is told part and
    echo.
    """

    def mutate(subject, chance):
        echo = int(chance.integers(1, 4))
        echoes = zip(subject.images("mag"), subject.images("phase"), strict=True)
        for place, (of_magnitude, of_phase) in enumerate(echoes, start=1):
            magnitude, phase = (
                nib.load(path).get_fdata(dtype=np.float32) for path in (of_magnitude, of_phase)
            )
            signal = magnitude * np.exp(1j * phase)
            for path, part, values in (
                (of_magnitude, "real", signal.real),
                (of_phase, "imag", signal.imag),
            ):
                rewrite(path, change(values, part, place == echo).astype(np.float32))
                for old in (path, path.with_name(path.name.replace(".nii.gz", ".json"))):
                    old.rename(old.with_name(re.sub("part-[a-z]+", f"part-{part}", old.name)))
        return subject_name(subject)

    return mutate


# --- content that is not here -------------------------------------------------------------------


def lost(choose, bring=None):
    """Leave a file's name without its content, as git-annex and Git LFS do; `bring` makes the file
    first.
    """

    def mutate(subject, chance):
        if bring:
            bring(subject, chance)
        chosen = choose(subject)
        path = one(chosen, chance) if isinstance(chosen, list) else chosen
        path.unlink(missing_ok=True)
        kind = int(chance.integers(3))
        if kind == 0:
            path.symlink_to("../../.git/annex/objects/00/00/MD5E-s1--0/MD5E-s1--0")
        else:
            path.write_text(
                ["/annex/objects/MD5E-s1--0\n", "version https://git-lfs.github.com/spec/v1\n"][
                    kind - 1
                ]
            )
        return path.name

    return mutate


def lost_derivatives(subject, chance):
    """A folder of derivatives behind a link, as to a disk that is not mounted."""
    folder = subject.root / "derivatives"
    shutil.rmtree(folder)
    folder.symlink_to("/nowhere/derivatives")
    return folder.name


# --- sidecars -----------------------------------------------------------------------------------


def of_fields(every=False, part="*", **changes):
    """Change fields of one sidecar, or of all; a value may be a function of the old one, None
    removes the field.
    """

    def mutate(subject, chance):
        paths = subject.sidecars(part)
        for path in paths if every else [one(paths, chance)]:
            named = path
            content = json.loads(path.read_text())
            for name, value in changes.items():
                content[name] = value(content[name]) if callable(value) else value
            path.write_text(
                json.dumps({name: value for name, value in content.items() if value is not None})
            )
        return subject_name(subject) if every else f"{named.stem}, {subject_name(subject)}"

    return mutate


def wrong_type(subject, chance):
    path = one(subject.sidecars(), chance)
    content = json.loads(path.read_text())
    kind = one(list(WRONG_VALUES), chance)
    content[one(FIELDS, chance)] = WRONG_VALUES[kind]
    path.write_text(json.dumps(content))
    return f"{path.stem}, {subject_name(subject)}"


def of_text(change):
    """Change the text of one sidecar."""

    def mutate(subject, chance):
        path = one(subject.sidecars(), chance)
        path.write_bytes(change(path.read_text(), chance))
        return f"{path.stem}, {subject_name(subject)}"

    return mutate


def literal(name, value):
    return of_text(
        lambda text, _: text.replace(f'"{name}": ', f'"{name}": {value}, "Old": ', 1).encode()
    )


# --- files as strangers have them ---------------------------------------------------------------


def of_scan(change, **fields):
    """Change the voxels of each image, and fields of each sidecar, of the subject's scan; `change`
    is told the part.
    """

    def mutate(subject, chance):
        for path in subject.images():
            part = re.search("part-([a-z]+)", path.name)[1]
            rewrite(path, change(nib.load(path).get_fdata(dtype=np.float32), part))
        for path in subject.sidecars():
            path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        return subject_name(subject)

    return mutate


def milliradians(values, part):
    return np.rint(1000 * values).astype(np.int16) if part == "phase" else values


def chopped(values, part):
    """Shift the phase of every second slice by half a cycle."""
    if part != "phase":
        return values
    odd = np.arange(values.shape[2]) % 2
    return np.angle(np.exp(1j * (values + np.pi * odd))).astype(np.float32)


def empty_outside(value):
    """Set the voxels without signal to a value in all images, as masked exports have them.

    A margin of one voxel stays. These heads have no scalp: without it, the voxels at their surface,
    which are next to noise otherwise, would count as brain.
    """

    def mutate(subject, chance):
        head = nib.load(subject.echo("mag", 1)).get_fdata(dtype=np.float32) >= 15
        outside = ~binary_dilation(head, np.ones((3, 3, 3), bool))
        for path in subject.images():
            rewrite(path, np.where(outside, value, nib.load(path).get_fdata(dtype=np.float32)))
        return subject_name(subject)

    return mutate


def renamed(change):
    """Give the subject's images and sidecars other names."""

    def mutate(subject, chance):
        paths = [*subject.images(), *subject.sidecars()]
        waiting = []
        for path in paths:
            name = change(path.name)
            path.rename(path.with_name(f"{name}.waiting"))
            waiting.append(path.with_name(name))
        for path in waiting:
            path.with_name(f"{path.name}.waiting").rename(path)
        return subject_name(subject)

    return mutate


def echoes_reversed(name):
    return re.sub(r"_echo-(\d)", lambda echo: f"_echo-{4 - int(echo[1])}", name)


def phase_of_run_2(name):
    return name.replace("_run-1", "_run-2") if "part-phase" in name else name


def magnitude_beside(subject, chance):
    """Bring a magnitude without phase, of another acquisition."""
    for suffix in (".nii.gz", ".json"):
        path = subject.anat / f"sub-{subject.label}_run-1_echo-1_part-mag_MEGRE{suffix}"
        name = f"sub-{subject.label}_acq-clinical_T2starw{suffix}"
        shutil.copyfile(path, path.with_name(name))
    return subject_name(subject)


def echoes_in_one_file(subject, chance):
    """Stack the echoes of each part in one 4-D file, with all times in its sidecar."""
    for part in ("mag", "phase"):
        paths = subject.images(part)
        sidecars_of_part = subject.sidecars(part)
        stack = [nib.load(path).get_fdata(dtype=np.float32) for path in paths]
        contents = [json.loads(path.read_text()) for path in sidecars_of_part]
        times = [content["EchoTime"] for content in contents]
        name = paths[0].name.replace("_echo-1", "")
        rewrite(paths[0], np.stack(stack, -1))
        paths[0].rename(paths[0].with_name(name))
        sidecar = paths[0].with_name(name.replace(".nii.gz", ".json"))
        sidecar.write_text(json.dumps(contents[0] | {"EchoTime": times}))
        for path in (*paths[1:], *sidecars_of_part):
            path.unlink()
    return subject_name(subject)


def in_metres(header, _):
    sizes = np.array(header["pixdim"])
    sizes[1:4] /= 1000
    rows = header.get_sform()[:3] / 1000
    offsets = {f"qoffset_{axis}": rows[place, 3] for place, axis in enumerate("xyz")}
    forms = dict(zip(("srow_x", "srow_y", "srow_z"), rows, strict=True))
    return {"xyzt_units": 1, "pixdim": sizes, **offsets, **forms}


def two_masks(subject, chance):
    with_mask(lambda good, _: good)(subject, chance)
    shutil.copyfile(subject.mask, subject.mask.with_suffix(""))
    subject.mask.with_suffix("").write_bytes(gzip.decompress(subject.mask.read_bytes()))
    return f"{subject.mask.name}, {subject_name(subject)}"


def ignored(pattern):
    def mutate(subject, chance):
        (subject.root / ".bidsignore").write_text(f"{pattern}\n")
        return f".bidsignore, {subject_name(subject)}"

    return mutate


# --- tables, labels and masks -------------------------------------------------------------------


def table_of(text, encoding="utf-8"):
    def mutate(subject, chance):
        subject.participants.write_bytes(text.encode(encoding))
        return "participants.tsv, sub-02"

    return mutate


def of_labels(change):
    def mutate(subject, chance):
        data = np.asarray(nib.load(subject.labels).dataobj)
        rewrite(subject.labels, change(data.astype(np.float32), chance))
        return f"{subject.labels.name}, sub-02"

    return mutate


def lookup_of(text, encoding="utf-8"):
    def mutate(subject, chance):
        subject.lookup.write_bytes(text.encode(encoding))
        return f"{subject.lookup.name}, {subject.labels.name}, sub-02"

    return mutate


def with_mask(values):
    """Bring a brain mask; `values` makes its voxels out of a good mask."""

    def mutate(subject, chance):
        like = nib.load(subject.echo("mag", 1))
        data = like.get_fdata(dtype=np.float32)
        good = (data > 30).astype(np.float32)
        nib.save(nib.Nifti1Image(values(good, chance), like.affine), subject.mask)
        return subject.mask.name

    return mutate


def mask_truncated(subject, chance):
    with_mask(lambda good, _: good)(subject, chance)
    subject.mask.write_bytes(truncated(subject.mask.read_bytes(), chance))
    return subject.mask.name


def mask_elsewhere(subject, chance):
    with_mask(lambda good, _: good)(subject, chance)
    affine = nib.load(subject.mask).affine.copy()
    affine[:3, 3] += 20
    rewrite(subject.mask, affine=affine)
    return subject.mask.name


def images(subject):
    return subject.images()


def sidecars(subject):
    return subject.sidecars()


def labels(subject):
    return subject.labels


def lookup(subject):
    return subject.lookup


def participants(subject):
    return subject.participants


GOOD_TABLE = "participant_id\tsite\tage\nsub-01\tsite0\t30\nsub-02\tsite0\t31\n"
KINDS = {
    "image: truncated": of_bytes(truncated, images),
    "image: empty": of_bytes(emptied, images),
    "image: random bytes": of_bytes(noise, images),
    "image: gzip damaged in the middle": of_bytes(in_the_middle, images),
    "image: not compressed, named .gz": of_bytes(unpacked, images),
    "image: voxels missing, gzip whole": of_bytes(voxels_cut, images),
    "image: bytes after its end": of_bytes(trailing, images),
    "image: gzip of two members": of_bytes(in_two_members, images),
    "header: bits flipped": of_bytes(header_flipped, images),
    "header: bits flipped (2)": of_bytes(header_flipped, images),
    "header: bits flipped (3)": of_bytes(header_flipped, images),
    "header: one size changed": of_header(
        dim=[
            dims(i, change)
            for i in (1, 2, 3)
            for change in (lambda n: n - 1, lambda n: n + 1, lambda n: 0, lambda n: -n)
        ]
    ),
    "header: huge sizes": of_header(
        dim=[dims(slice(1, 4), lambda n: n * 0 + 30000), dims(0, lambda n: 7)]
    ),
    "header: wrong data type": of_header(datatype=[2, 4, 8, 64, 128, 32, 0, 1, 999]),
    "header: data offset": of_header(vox_offset=[0, 100, 1e6, -352, np.nan]),
    "header: scale of one image": of_header(scl_slope=[2, 0.5, 1000, -1], scl_inter=[0, 1]),
    "header: scale NaN, infinite or 0": of_header(
        scl_slope=[np.nan, np.inf, 0], scl_inter=[np.nan, np.inf, 0]
    ),
    "header: scale of all magnitudes": of_header("mag", every=True, scl_slope=[10], scl_inter=[0]),
    "header: scale of all phases": of_header(
        "phase", every=True, scl_slope=[1.5, 0.5, 100], scl_inter=[0]
    ),
    "header: voxel size 0, negative or NaN": of_header(
        pixdim=[
            np.array([1, *sizes, 0, 0, 0, 0])
            for sizes in ([0, 2, 2], [-2, 2, 2], [np.nan, 2, 2], [1e9, 2, 2])
        ]
    ),
    "header: sform turned, qform of the scanner": of_forms(
        lambda header, degrees: turned_sform(header, degrees, sform_code=2, qform_code=1)
    ),
    "header: sform turned, both of the scanner": of_forms(
        lambda header, degrees: turned_sform(header, degrees, sform_code=1, qform_code=1)
    ),
    "header: no form of the scanner": of_forms(
        lambda header, _: {"sform_code": 2, "qform_code": 0}
    ),
    "header: no form of the scanner, sform turned": of_forms(
        lambda header, degrees: turned_sform(header, degrees, sform_code=2, qform_code=0)
    ),
    "header: qform of the scanner is no rotation": of_forms(
        lambda header, _: {"sform_code": 2, "qform_code": 1, "quatern_b": 2}
    ),
    "header: voxel size of sform and pixdim differ": of_forms(
        lambda header, _: {
            "qform_code": 0,
            "pixdim": np.array(header["pixdim"]) * [1, 2, 2, 2, 1, 1, 1, 1],
        }
    ),
    "affine: zero": of_affine(lambda affine, _: np.zeros((4, 4)), every=False),
    "affine: NaN": of_affine(lambda affine, _: affine * np.nan, every=False),
    "affine: one image shifted": of_affine(lambda affine, chance: affine + shift(chance), False),
    "affine: one image mirrored": of_affine(
        lambda affine, _: affine @ np.diag([-1, 1, 1, 1]), every=False
    ),
    "affine: all rotated by 90°": of_affine(lambda affine, _: affine[[0, 2, 1, 3]], every=True),
    "affine: all voxels twice as large": of_affine(
        lambda affine, _: affine @ np.diag([2, 2, 2, 1]), every=True
    ),
    "voxels: block of NaN": of_voxels(block_of(np.nan)),
    "voxels: block of infinity": of_voxels(block_of(np.inf)),
    "voxels: block of 1e30": of_voxels(block_of(1e30)),
    "voxels: all zero": of_voxels(lambda data, _: data * 0),
    "voxels: all NaN": of_voxels(lambda data, _: data * np.nan),
    "voxels: magnitude negative": of_voxels(lambda data, _: -data, "mag"),
    "voxels: phase in degrees": of_voxels(lambda data, _: np.degrees(data), "phase", every=True),
    "voxels: phase of one echo in degrees": of_voxels(lambda data, _: np.degrees(data), "phase"),
    "voxels: phase is noise": of_voxels(
        lambda data, chance: chance.uniform(-np.pi, np.pi, data.shape).astype("f4"),
        "phase",
        every=True,
    ),
    "voxels: phase of one echo is noise": of_voxels(
        lambda data, chance: chance.uniform(-np.pi, np.pi, data.shape).astype("f4"), "phase"
    ),
    "voxels: phase negated": of_voxels(lambda data, _: -data, "phase", every=True),
    "voxels: phase of one echo negated": of_voxels(lambda data, _: -data, "phase"),
    "voxels: one image mirrored": of_voxels(lambda data, _: data[::-1], "*"),
    "voxels: one slice missing": of_voxels(lambda data, _: data[..., :-1]),
    "voxels: 4-D": stacked,
    "voxels: one slice only": of_voxels(lambda data, _: data[..., :1]),
    "voxels: complex": of_voxels(lambda data, _: data.astype(np.complex64)),
    "voxels: whole numbers": of_voxels(lambda data, _: np.rint(data).astype(np.int16), "mag"),
    "encoding: one echo of 0 to 4095 among -4096 to 4095": encoded(unsigned, signed, signed),
    "encoding: one echo of -4096 to 4095 among 0 to 4095": encoded(unsigned, unsigned, signed),
    "encoding: one echo in radians among integers": encoded(unsigned, unsigned, np.array),
    "encoding: one echo in integers among radians": encoded(
        np.array, np.array, unsigned, units="rad"
    ),
    "encoding: one echo cut at 0 instead of π": encoded(
        np.array, np.array, lambda phase: phase % (2 * np.pi), units="rad"
    ),
    "encoding: one echo at half its scale": encoded(
        np.array, np.array, lambda phase: phase / 2, units="rad"
    ),
    "encoding: one echo in whole radians": encoded(np.array, np.array, np.rint, units="rad"),
    "parts: as scanned": in_parts(lambda values, part, is_one: values),
    "parts: intercept lost": in_parts(lambda values, part, is_one: values + 150),
    "parts: intercept lost, negative": in_parts(lambda values, part, is_one: values - 150),
    "parts: intercept of one part lost": in_parts(
        lambda values, part, is_one: values + 150 * (part == "imag")
    ),
    "parts: intercept of one echo lost": in_parts(
        lambda values, part, is_one: values + 150 * is_one
    ),
    "parts: half an intercept lost": in_parts(lambda values, part, is_one: values + 60),
    "parts: negative values wrapped around": in_parts(
        lambda values, part, is_one: np.rint(values) % 65536
    ),
    "parts: one image scaled": in_parts(
        lambda values, part, is_one: values * (2 if is_one and part == "real" else 1)
    ),
    "exchanged: magnitude and phase of an echo": exchanged(
        lambda s: [(s.echo("mag", 2), s.echo("phase", 2))]
    ),
    "exchanged: all magnitudes and phases": exchanged(
        lambda s: list(zip(s.images("mag"), s.images("phase"), strict=True))
    ),
    "exchanged: phases of two echoes": exchanged(
        lambda s: [(s.echo("phase", 1), s.echo("phase", 3))]
    ),
    "exchanged: magnitudes of two echoes": exchanged(
        lambda s: [(s.echo("mag", 1), s.echo("mag", 3))]
    ),
    "exchanged: sidecars of two echoes": exchanged(
        lambda s: [(s.sidecars(part)[0], s.sidecars(part)[2]) for part in ("mag", "phase")]
    ),
    "mislabelled: one echo's phase is another subject's": of_another("phase", ()),
    "mislabelled: one echo's magnitude is another subject's": of_another("mag", ()),
    "mislabelled: one echo is another subject's": of_another("all", ()),
    "mislabelled: the scan is another subject's": of_another("all", (1, 2, 3)),
    "mislabelled: a phase under two echoes": copied_echo("phase"),
    "mislabelled: a magnitude under two echoes": copied_echo("mag"),
    "mislabelled: echoes named as runs": echoes_as_runs,
    "file: dangling link": dangling,
    "content: of an image": lost(images),
    "content: of a sidecar": lost(sidecars),
    "content: of a brain mask": lost(lambda s: s.mask, with_mask(lambda good, _: good)),
    "content: of labels": lost(labels),
    "content: of a lookup table": lost(lookup),
    "content: of participants.tsv": lost(participants),
    "content: of dataset_description.json": lost(lambda s: s.root / "dataset_description.json"),
    "content: of the description of derivatives": lost(
        lambda s: s.root / "derivatives/rater/dataset_description.json"
    ),
    "content: of all derivatives": lost_derivatives,
    "file: folder instead of image": folder_instead(images),
    "file: image missing": gone(lambda s: s.images("mag")),
    "file: sidecar missing": gone(sidecars),
    "file: folder instead of sidecar": folder_instead(sidecars),
    "sidecar: truncated": of_bytes(truncated, sidecars),
    "sidecar: empty": of_bytes(emptied, sidecars),
    "sidecar: random bytes": of_bytes(noise, sidecars),
    "sidecar: bits flipped": of_bytes(flipped, sidecars),
    "sidecar: wrong type": wrong_type,
    "sidecar: wrong type (2)": wrong_type,
    "sidecar: wrong type (3)": wrong_type,
    "sidecar: wrong type (4)": wrong_type,
    "sidecar: echo time missing in one": of_fields(EchoTime=None),
    "sidecar: echo time missing in all": of_fields(every=True, EchoTime=None),
    "sidecar: units missing": of_fields(every=True, Units=None),
    "sidecar: field and frequency missing": of_fields(
        every=True, MagneticFieldStrength=None, ImagingFrequency=None
    ),
    "sidecar: manufacturer missing": of_fields(every=True, Manufacturer=None),
    "sidecar: echo time in ms": of_fields(EchoTime=lambda time: 1000 * time),
    "sidecar: echo time NaN": literal("EchoTime", "NaN"),
    "sidecar: echo time 1e999": literal("EchoTime", "1e999"),
    "sidecar: a whole number of 5000 digits": literal("EchoTime", "9" * 5000),
    "sidecar: the same name twice": literal("EchoTime", '0.5, "EchoTime": 0.006'),
    "sidecar: one echo time plausible but wrong": of_fields(
        part="phase", EchoTime=lambda time: 1.2 * time
    ),
    "sidecar: all echo times a tenth too long": of_fields(
        every=True, EchoTime=lambda time: 1.1 * time
    ),
    "sidecar: frequency of another field": of_fields(
        every=True, ImagingFrequency=lambda mhz: mhz / 2
    ),
    "sidecar: field and frequency of another scanner": of_fields(
        every=True, MagneticFieldStrength=1.5, ImagingFrequency=63.9
    ),
    "sidecar: another manufacturer": of_fields(every=True, Manufacturer="GE MEDICAL SYSTEMS"),
    "sidecar: other units": of_fields(every=True, part="phase", Units="Hz"),
    "sidecar: a list": of_text(lambda text, _: f"[{text}]".encode()),
    "sidecar: a number": of_text(lambda text, _: b"3"),
    "sidecar: nested 100000 deep": of_text(
        lambda text, _: (text[:-1] + ', "a": ' + "[" * 100000 + "]" * 100000 + "}").encode()
    ),
    "sidecar: UTF-16": of_text(lambda text, _: text.encode("utf-16")),
    "sidecar: Latin-1": of_text(
        lambda text, _: text.replace("Siemens", "Siémens").encode("latin-1")
    ),
    "sidecar: byte order mark": of_text(lambda text, _: text.encode("utf-8-sig")),
    "sidecar: names that lead elsewhere": of_fields(
        every=True, InstitutionName="../../../../tmp/x<script>", SoftwareVersions="\u0000\n'; --"
    ),
    "participants: truncated": of_bytes(truncated, participants),
    "participants: empty": of_bytes(emptied, participants),
    "participants: random bytes": of_bytes(noise, participants),
    "participants: Latin-1": table_of(GOOD_TABLE.replace("site0", "Zürich"), "latin-1"),
    "participants: UTF-16": table_of(GOOD_TABLE, "utf-16"),
    "participants: zero bytes in it": table_of(GOOD_TABLE.replace("site0", "si\0te0")),
    "participants: no such subject": table_of("participant_id\tsite\nsub-01\tsite0\n"),
    "participants: a subject twice": table_of(GOOD_TABLE + "sub-02\tsite7\t99\n"),
    "participants: commas": table_of(GOOD_TABLE.replace("\t", ",")),
    "participants: quote left open": table_of(GOOD_TABLE.replace("site0", '"site0')),
    "participants: a field of 200,000 letters": table_of(GOOD_TABLE.replace("site0", "s" * 200000)),
    "labels: truncated": of_bytes(truncated, labels),
    "labels: empty": of_bytes(emptied, labels),
    "labels: header bits flipped": of_bytes(header_flipped, labels),
    "labels: gzip damaged in the middle": of_bytes(in_the_middle, labels),
    "labels: other size": of_labels(lambda data, _: data[:-1]),
    "labels: fractions": of_labels(lambda data, _: 0.5 * data),
    "labels: NaN": of_labels(lambda data, _: np.where(data > 0, np.nan, 0).astype("f4")),
    "labels: none": of_labels(lambda data, _: 0 * data),
    "labels: not in the table": of_labels(lambda data, _: 7 * data),
    "labels: negative": of_labels(lambda data, _: -data),
    "labels: 4-D": of_labels(lambda data, _: np.stack([data, data], -1)),
    "lookup: truncated": of_bytes(truncated, lookup),
    "lookup: empty": of_bytes(emptied, lookup),
    "lookup: random bytes": of_bytes(noise, lookup),
    "lookup: Latin-1": lookup_of("index\tname\n1\teisé\n", "latin-1"),
    "lookup: no name column": lookup_of("index\tcolour\n1\tred\n"),
    "lookup: a label twice": lookup_of("index\tname\n1\tiron\n1\tcopper\n"),
    "lookup: index is no number": lookup_of("index\tname\none\tiron\n"),
    "lookup: name that leads elsewhere": lookup_of("index\tname\n1\t../../iron\n"),
    "foreign: a fourth dimension of one": of_scan(lambda values, _: values[..., None]),
    "foreign: phase in milliradians": of_scan(
        milliradians, Manufacturer="Philips", Units="arbitrary"
    ),
    "foreign: phase in milliradians, said so": of_scan(milliradians, Units="mrad"),
    "foreign: magnitudes of 1e-16": of_scan(
        lambda values, part: values * (1e-16 if part == "mag" else 1)
    ),
    "foreign: magnitudes of 1e12": of_scan(
        lambda values, part: values * (1e10 if part == "mag" else 1)
    ),
    "foreign: slices chopped": of_scan(chopped),
    "foreign: NaN outside the head": empty_outside(np.nan),
    "foreign: zero outside the head": empty_outside(0),
    "foreign: echo numbers against the order of time": renamed(echoes_reversed),
    "foreign: magnitude and phase under different runs": renamed(phase_of_run_2),
    "foreign: uncombined coils": renamed(lambda name: name.replace("_echo", "_coil-1_echo")),
    "foreign: a magnitude without phase beside": magnitude_beside,
    "foreign: all echoes in one file": echoes_in_one_file,
    "foreign: voxels in metres": of_forms(in_metres),
    "foreign: voxels of 4 micrometres": of_forms(
        lambda header, _: {"pixdim": np.array(header["pixdim"]) * [1, *[1e-3] * 3, *[1] * 4]}
    ),
    "foreign: manufacturer in capitals": of_fields(every=True, Manufacturer="SIEMENS HEALTHINEERS"),
    "foreign: a microsecond between magnitude and phase": of_fields(
        every=True, part="phase", EchoTime=lambda time: time + 1e-6
    ),
    "foreign: image type of proton density": of_fields(
        every=True, part="mag", ImageType=["ORIGINAL", "PRIMARY", "M", "PROTON_DENSITY"]
    ),
    "foreign: ultrashort echo times in ms": of_fields(
        every=True, EchoTime=lambda time: 10 * time, SequenceName="ute", RepetitionTime=0.03
    ),
    "foreign: quotes in participants.tsv": table_of(
        GOOD_TABLE.replace("age\n", "age\tcoil\n").replace("30\n", '30\t"8" coil\n')
    ),
    "foreign: two masks": two_masks,
    "foreign: an echo in .bidsignore": ignored("**/sub-02_*_echo-3_*"),
    "foreign: a line of .bidsignore that is no pattern": ignored("sub-02[z-a]"),
    "mask: none of the brain": with_mask(lambda good, _: 0 * good),
    "mask: NaN": with_mask(lambda good, _: good * np.nan),
    "mask: probabilities": with_mask(
        lambda good, chance: good * chance.uniform(0.1, 1, good.shape).astype("f4")
    ),
    "mask: other size": with_mask(lambda good, _: good[:-2]),
    "mask: elsewhere": mask_elsewhere,
    "mask: truncated": mask_truncated,
    "mask: everything": with_mask(lambda good, _: 0 * good + 1),
    "mask: one voxel": with_mask(
        lambda good, _: (np.arange(good.size).reshape(good.shape) == good.size // 2).astype("f4")
    ),
    "mask: inside out": with_mask(lambda good, _: 1 - good),
    "mask: 4-D": with_mask(lambda good, _: np.stack([good, good], -1)),
}

# A number or an image that another scan could well have: nothing in the files contradicts it.
UNKNOWABLE = (
    "header: scale of all magnitudes",
    "affine: all rotated by 90°",
    "affine: all voxels twice as large",
    "mislabelled: the scan is another subject's",
    "sidecar: all echo times a tenth too long",
    "sidecar: field and frequency of another scanner",
)
