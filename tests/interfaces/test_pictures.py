"""Nodes that draw a picture: its file name, its content, and its removal if there is none."""

import nibabel as nib
import numpy as np
import pytest
from helpers.travelling import (
    SHAPE,
    affine_of,
    head_points,
    magnitude_of,
    susceptibility,
    voxel_means,
)
from PIL import Image

from multiqsm.core.registration.transforms import itk_text
from multiqsm.dataset.names import (
    LESIONS,
    MAPS,
    REGIONS,
    REGISTRATION,
    SITES,
    TUBES,
    picture_path,
)
from multiqsm.interfaces import figures, subject_figures
from multiqsm.interfaces.figures import PlotInterface, PlotMaps, PlotSlices, PlotTubes
from multiqsm.interfaces.flair import PlotFlair
from multiqsm.interfaces.images import read_canonical
from multiqsm.interfaces.subject_figures import (
    PlotLesions,
    PlotRegions,
    PlotRegistration,
    PlotSites,
)
from multiqsm.pictures.phantom import tubes_figure
from multiqsm.pictures.slices import compare_maps_figure

SUBJECT = {"subject": "01"}
SCAN = {"subject": "01", "session": "A", "run": "1"}


@pytest.fixture
def head(tmp_path, monkeypatch):
    """Files of a scan's images by name, and their folder."""
    monkeypatch.chdir(tmp_path)
    magnitude, mask = magnitude_of(0)
    volumes = {
        "magnitude": magnitude,
        "mask": mask,
        "chi": np.where(mask, voxel_means(susceptibility, 0), 0),
        "empty": np.zeros(SHAPE),
        "ball": (np.linalg.norm(head_points(0).T, axis=1) < 15).reshape(SHAPE),
    }
    files = {name: save(tmp_path / f"{name}.nii", volume) for name, volume in volumes.items()}
    return files, tmp_path


def save(path, volume):
    nib.save(nib.Nifti1Image(volume.astype(np.float32), affine_of(0)), path)
    return str(path)


def draw(node):
    """Run a node that draws; return the file of the picture and its pixels."""
    out_file = node.run().outputs.out_file
    return out_file, np.asarray(Image.open(out_file).convert("RGB"))


def coloured_fraction(pixels):
    """Return the fraction of pixels that are not grey."""
    return (np.ptp(pixels.astype(int), axis=-1) > 60).mean()


def test_image_is_drawn_in_three_planes(head):
    files, folder = head
    options = {"in_file": files["magnitude"], "mask_file": files["mask"], "title": "magnitude"}
    plain = PlotSlices(**options, entities=SCAN, output_dir=str(folder), suffix="magnitude")
    out_file, pixels = draw(plain)
    assert out_file == str(folder / "sub-01" / "figures" / "sub-01_ses-A_run-1_magnitude.png")
    assert coloured_fraction(pixels) == 0
    assert (pixels[0, 0] == 0).all()
    outlined = PlotSlices(
        **options, entities=SCAN, output_dir=str(folder), suffix="magnitude", outline=True
    )
    assert coloured_fraction(draw(outlined)[1]) > 0.001


def test_maps_are_drawn_side_by_side(head):
    files, folder = head
    widths = []
    for methods in (("medi",), ("medi", "iterative"), ("medi", "iterative", "deterministic")):
        node = PlotMaps(
            **MAPS,
            chi_files=[files["chi"]] * len(methods),
            methods=list(methods),
            mask_file=files["mask"],
            entities=SCAN,
            output_dir=str(folder),
        )
        out_file, pixels = draw(node)
        widths.append(pixels.shape[1])
        assert out_file == str(picture_path(folder, SCAN, **MAPS))
    # The difference of two maps is a third panel; of three, that of the iterative and the
    # deterministic map is a fourth.
    assert widths == [320, 920, 1220]


def tubes_node(head, expected):
    """Return a node that draws two rods of 1 and 0.5 ppm in water of 0.2 ppm."""
    files, folder = head
    rods = np.zeros(SHAPE)
    rods[10:14, 24:28] = 1
    rods[24:28, 24:28] = 2
    chi = np.choose(rods.astype(int), [0.2, 0.7, 1.2])
    return PlotTubes(
        **TUBES,
        chi_files=[save(folder / "rods_chi.nii", chi)],
        methods=["iterative"],
        mask_file=files["mask"],
        label_file=save(folder / "rods.nii", rods),
        names={"1": "weak", "2": "strong", "3": "absent"},
        expected=expected,
        entities=SCAN,
        output_dir=str(folder),
    )


def test_tubes_are_drawn_relative_to_the_water(head, monkeypatch):
    _, folder = head
    drawings = []

    def record(maps, mask, tubes, voxel_size, *, strongest):
        drawings.append((maps, mask, tubes, strongest))
        return tubes_figure(maps, mask, tubes, voxel_size, strongest=strongest)

    monkeypatch.setattr(figures, "tubes_figure", record)
    # Without the label that has no voxels, the strongest is the second.
    node = tubes_node(head, {"weak": 0.5, "strong": 1.0, "absent": 2.0})
    out_file, _ = draw(node)
    assert out_file == str(picture_path(folder, SCAN, **TUBES))
    maps, mask, tubes, strongest = drawings[0]
    chi = maps["iterative"]
    assert np.median(chi[mask & (tubes == 0)]) == 0
    np.testing.assert_allclose(chi[tubes == 1], 0.5, atol=1e-6)
    assert strongest == 2


def test_one_tube_of_known_susceptibility_has_no_picture(head):
    _, folder = head
    earlier = picture_path(folder, SCAN, **TUBES)
    draw(tubes_node(head, {"weak": 0.5, "strong": 1.0}))
    assert earlier.exists()
    tubes_node(head, {"weak": 0.5, "absent": 1.0}).run()
    assert not earlier.exists()


def sites_node(head, sites, chi_files):
    files, folder = head
    return PlotSites(
        **SITES,
        chi_files=chi_files,
        sites=sites,
        mask_file=files["mask"],
        entities=SUBJECT,
        output_dir=str(folder),
    )


def test_first_registered_map_of_each_site(head, monkeypatch):
    files, folder = head
    drawings = []

    def record(maps, *arguments):
        drawings.append(maps)
        return compare_maps_figure(maps, *arguments)

    monkeypatch.setattr(subject_figures, "compare_maps_figure", record)
    chi = files["chi"]
    node = sites_node(head, list("AABB"), [chi, files["ball"], "", files["magnitude"]])
    out_file, _ = draw(node)
    assert out_file == str(picture_path(folder, SUBJECT, **SITES))
    # The first scan at site B was not registered.
    assert list(drawings[0]) == ["site A", "site B"]
    for title, name in (("site A", "chi"), ("site B", "magnitude")):
        np.testing.assert_array_equal(drawings[0][title], read_canonical(files[name])[0])
    for sites, chi_files in (("AA", [chi, chi]), ("AB", [chi, ""])):
        picture_path(folder, SUBJECT, **SITES).write_bytes(b"earlier")
        sites_node(head, list(sites), chi_files).run()
        assert not picture_path(folder, SUBJECT, **SITES).exists()


def registration_node(head, transforms):
    files, folder = head
    return PlotRegistration(
        **REGISTRATION,
        average_file=files["magnitude"],
        mask_file=files["mask"],
        magnitude_files=[files["magnitude"]] * len(transforms),
        transform_files=transforms,
        titles=[f"run-{place}" for place in range(len(transforms))],
        entities=SUBJECT,
        output_dir=str(folder),
    )


def test_checkerboard_of_registered_scans_and_their_average(head):
    _, folder = head
    (folder / "identity.txt").write_text(itk_text(np.eye(4)))
    identity = str(folder / "identity.txt")
    out_file, two_scans = draw(registration_node(head, [identity, identity]))
    assert out_file == str(picture_path(folder, SUBJECT, **REGISTRATION))
    assert coloured_fraction(two_scans) > 0.1  # squares of the scans are tinted
    _, single_scan = draw(registration_node(head, [identity, ""]))  # the other one failed
    assert single_scan.shape[1] < two_scans.shape[1]


@pytest.mark.parametrize("transforms", [["", ""], ["identity.txt"]])
def test_picture_of_an_earlier_registration_is_removed(head, transforms):
    """No scan was registered, or there is only one, whereas an earlier run had more."""
    _, folder = head
    (folder / "identity.txt").write_text(itk_text(np.eye(4)))
    picture = picture_path(folder, SUBJECT, **REGISTRATION)
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"earlier")
    registration_node(head, transforms).run()
    assert not picture.exists()


@pytest.mark.parametrize(("labels", "measured"), [("ball", True), ("empty", True), ("ball", False)])
def test_regions_are_drawn_on_the_first_measured_map(head, labels, measured):
    files, folder = head
    chi = files["chi"] if measured else ""
    node = PlotRegions(
        **REGIONS,
        chi_files=["", chi],
        label_files=[files[labels]] * 2,
        names=[{"1": "ball"}] * 2,
        excluded_files=[files["empty"]] * 2,
        reference_files=[files["ball"]] * 2,
        title="regions",
        entities=SUBJECT,
        output_dir=str(folder),
    )
    path = picture_path(folder, SUBJECT, **REGIONS)
    if measured and labels == "ball":
        out_file, pixels = draw(node)
        assert out_file == str(path)
        assert coloured_fraction(pixels) > 0.001
    else:
        node.run()
        assert not path.exists()


def test_lesions_are_outlined(head):
    files, folder = head
    common = {
        **LESIONS,
        "flair_file": files["magnitude"],
        "entities": SUBJECT,
        "output_dir": str(folder),
    }
    out_file, pixels = draw(PlotLesions(**common, mask_file=files["ball"]))
    assert out_file == str(picture_path(folder, SUBJECT, **LESIONS))
    assert coloured_fraction(pixels) > 0.0005
    assert coloured_fraction(draw(PlotLesions(**common, mask_file=files["empty"]))[1]) == 0


def test_images_are_drawn_in_ras_with_nan_as_zero(tmp_path):
    data = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    data[0, 0, 0] = np.nan
    path = tmp_path / "lps.nii"
    nib.save(nib.Nifti1Image(data, np.diag([-1.0, -2, 3, 1])), path)
    canonical, image = read_canonical(path)
    np.testing.assert_array_equal(canonical, np.nan_to_num(data)[::-1, ::-1])
    assert nib.aff2axcodes(image.affine) == tuple("RAS")
    assert image.header.get_zooms() == (1, 2, 3)


def test_all_nodes_that_draw_share_their_base():
    nodes = PlotInterface.__subclasses__()
    expected = {PlotSlices, PlotMaps, PlotTubes}
    expected |= {PlotRegistration, PlotSites, PlotRegions, PlotFlair, PlotLesions}
    assert set(nodes) == expected
    for node in nodes:
        assert node._run_interface is PlotInterface._run_interface
