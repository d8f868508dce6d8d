"""Findings that some heads have: calcifications, bleeds, cavernomas, rims, veins, a burr hole.

Places are MNI mm. Which findings a head has, and where, is drawn once for each person.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..head import Feature, Subject, anatomy, load_templates
from ..lesions import lesion_sites
from ..names import FINDINGS
from ..shapes import pieces

# Labels beyond those of the anatomy, with names of their tissue.
LABELS = {
    "calcification": 23,
    "haemorrhage": 24,
    "cavernoma": 25,
    "cavernoma_rim": 26,
    "lesion_rim": 27,
    "burr_hole": 28,
}
# All but susceptibility are our choice: calcifications and old blood are dark, without much water.
TISSUES = {
    "calcification": {"r2s": 60.0, "pd": 0.5, "t1": 1.0},
    "haemorrhage": {"r2s": 80.0, "pd": 0.8, "t1": 1.0},
    "cavernoma": {"r2s": 50.0, "pd": 0.8, "t1": 1.2},
    "cavernoma_rim": {"r2s": 120.0, "pd": 0.7, "t1": 1.0},
    "lesion_rim": {"r2s": 22.0, "pd": 0.8, "t1": 1.1},
}
PINEAL = (0.0, -30.0, 3.0)
CHOROID = (24.0, -39.0, 15.0)  # the glomus in the right ventricle's trigone
PLACE_SD = 1.0  # mm, of pineal and glomus
VEIN_STEP = 7.0  # mm between two points of a vein at the rim
VEIN_POINTS = 6
RIM_DEPTH = 0.5  # mm from the brain's surface to such a vein
SMALLEST_RIMMED = 2.5  # mm, radius of a lesion that can have a rim


@dataclass(frozen=True)
class Pathology:
    """How frequent findings are, their size (radii in mm) and susceptibility (ppm).

    A frequency of 1 gives every head the finding, one of 0 none. Ranges are uniform.

    Parameters
    ----------
    pineal : float
        Fraction of people with a calcified pineal gland: 62 % (214 of 346 people, Adams et al.,
        PLoS One 12:e0172764, 2017).
    pineal_radius : tuple of float
        Mean and standard deviation of its longest radius: 2.3 ± 1.1 (Al-Ameri et al., Int J
        Morphol: diameters of 4.55 ± 2.13 by 3.95 mm).
    choroid : float
        Fraction of people with calcifications of the choroid plexus, mostly on both sides: 54 %
        (Al-Ameri et al.); 66 % in another study (PMID 17594669).
    choroid_radius : tuple of float
        Their radius. Our choice.
    calcification_chi : tuple of float
        In the choroid plexus from -0.15 ppm on, the threshold at which QSM agrees with CT (Hett et
        al., medRxiv 2026). The lower end is our choice.
    microbleed : float
        Fraction of people with one microbleed. Ours is half of the 6.5 % at 45 to 50 years (Poels
        et al., Stroke 41:S103, 2010), for younger people.
    microbleed_radius : tuple of float
        Our choice.
    haemorrhage : float
        Fraction with a larger bleed; none in healthy people.
    haemorrhage_radius : tuple of float
        5.7 mL, a mean over 26 patients (Zhang et al., J Magn Reson Imaging, January 2018), is a
        radius of 11 mm.
    blood_chi : tuple of float
        Chronic 0.71 ± 0.31, acute 1.30 ± 0.33 ppm (Chang et al., J Magn Reson Imaging 44:420,
        2016).
    cavernoma : float
        Fraction of people with one (0.17 to 0.9 %, Handb Clin Neurol 2017, PMID 28552146).
    cavernoma_radius : tuple of float
        Our choice.
    cavernoma_chi, cavernoma_rim_chi : float
        The rim has the greatest susceptibility that tells cavernomas that bled from stable ones,
        0.78 ppm (Incerti et al., Eur Radiol 33:4158, 2023). The core's is our choice.
    rim_patients : float
        Fraction of patients in whom lesions have rims: 40.6 % (Ng Kee Kwong et al., PLoS One
        16:e0256845, 2021).
    rim_lesions : float
        Fraction of all lesions that have one: 9.8 % (the same meta-analysis).
    rim_chi, rim_thickness : float
        Above the lesion's own 0.02 ppm by iron. Our choice.
    rim_veins : int
        Veins at the brain's surface besides those of the template on each side; their number
        is our choice, near that of bridging veins (354 in 30 people, Surg Radiol Anat,
        doi:10.1007/s00276-010-0714-5).
    vein_radius : tuple of float
        Our choice.
    burr_hole : float
        Fraction of people with a hole in the skull; none in healthy people.
    burr_hole_radius : float
        7 mm, that of a usual cranial perforator.
    """

    pineal: float = 0.62
    pineal_radius: tuple[float, float] = (2.3, 1.1)
    choroid: float = 0.54
    choroid_radius: tuple[float, float] = (1.0, 2.5)
    calcification_chi: tuple[float, float] = (-0.6, -0.15)
    microbleed: float = 0.03
    microbleed_radius: tuple[float, float] = (0.7, 2.0)
    haemorrhage: float = 0.0
    haemorrhage_radius: tuple[float, float] = (4.0, 11.0)
    blood_chi: tuple[float, float] = (0.7, 1.3)
    cavernoma: float = 0.005
    cavernoma_radius: tuple[float, float] = (3.0, 7.0)
    cavernoma_chi: float = 0.4
    cavernoma_rim_chi: float = 0.78
    rim_patients: float = 0.406
    rim_lesions: float = 0.098
    rim_chi: float = 0.06
    rim_thickness: float = 1.0
    rim_veins: int = 6
    vein_radius: tuple[float, float] = (0.4, 0.9)
    burr_hole: float = 0.0
    burr_hole_radius: float = 7.0

    def only(self, *names: str) -> "Pathology":
        """Return findings that every head has: the named ones, and no others.

        Sizes and susceptibilities stay. Rims are those of the patients who have rims: on average of
        a quarter of their lesions.

        Parameters
        ----------
        *names : str
            Names from `multiqsm.simulation.names.FINDINGS`.

        Raises
        ------
        ValueError
            If no finding has one of these names.

        Examples
        --------
        >>> Pathology().only("cavernoma").cavernoma, Pathology().only("cavernoma").pineal
        (1.0, 0.0)
        """
        unknown = set(names) - set(FINDINGS)
        if unknown:
            raise ValueError(
                f"no finding is called {', '.join(sorted(unknown))}: choose from "
                f"{', '.join(FINDINGS)}"
            )
        rims_of_patient = self.rim_lesions / max(self.rim_patients, self.rim_lesions)
        return replace(
            self,
            pineal=float("pineal" in names),
            choroid=float("choroid_plexus" in names),
            microbleed=float("microbleed" in names),
            haemorrhage=float("haemorrhage" in names),
            cavernoma=float("cavernoma" in names),
            rim_patients=float("lesion_rims" in names),
            rim_lesions=rims_of_patient,
            rim_veins=self.rim_veins if "surface_veins" in names else 0,
            burr_hole=float("burr_hole" in names),
        )


def with_findings(subject: Subject, pathology: Pathology, rng: np.random.Generator) -> Subject:
    """Give a person findings.

    Parameters
    ----------
    subject : multiqsm.simulation.head.Subject
        The person; lesions may get rims.
    pathology : Pathology
        Frequencies, sizes and susceptibilities.
    rng : numpy.random.Generator
        Draws the findings. Each has random numbers of its own, so that a frequency changes only
        its own finding.

    Returns
    -------
    multiqsm.simulation.head.Subject
    """
    draws = rng.spawn(7)
    features = [
        *_calcifications(pathology, draws[1]),
        *_microbleed(pathology, draws[2]),
        *_haemorrhage(pathology, draws[3]),
        *_cavernoma(pathology, draws[4]),
        *_rim_veins(pathology, draws[5]),
        *_burr_hole(pathology, draws[6]),
    ]
    return replace(subject, rims=_rims(pathology, subject.lesions, draws[0]), features=features)


def label_names() -> dict[int, str]:
    """Return the names of the labels of findings by index."""
    return {label: name for name, label in LABELS.items()}


def findings_record(subject: Subject) -> dict[str, object]:
    """Return what the truth's sidecar states: place (MNI mm), radii and susceptibility (ppm).

    Veins are counted only.
    """
    names = label_names()
    findings = []
    veins = 0
    for feature in (*subject.rims, *subject.features):
        if feature.label not in names:
            veins += feature.label == anatomy()["labels"]["vein"]
            continue
        for ellipsoid in feature.shape["ellipsoids"]:
            centre, radii, _ = np.reshape(ellipsoid, (3, 3)).tolist()
            findings.append(
                {
                    "Name": names[feature.label],
                    "Centre": centre,
                    "Radii": radii,
                    "Susceptibility": feature.tissue["chi"],
                }
            )
        for tube in feature.shape["tubes"]:
            findings.append({"Name": names[feature.label], "Axis": np.asarray(tube).tolist()})
    return {"Findings": findings, "VeinSegments": veins}


def _calcifications(pathology, rng):
    has_pineal, has_choroid = rng.random(2) < (pathology.pineal, pathology.choroid)
    chi = rng.uniform(*pathology.calcification_chi, 3)
    radius = float(np.clip(rng.normal(*pathology.pineal_radius), 0.8, 5.0))
    places = PLACE_SD * rng.standard_normal((3, 3))
    radii = rng.uniform(*pathology.choroid_radius, 2)
    calcifications = []
    if has_pineal:
        axes = (0.87 * radius, radius, 0.87 * radius)
        calcifications.append(_ball("calcification", PINEAL + places[0], axes, chi[0]))
    if has_choroid:
        for side, place, size, value in zip((-1, 1), places[1:], radii, chi[1:], strict=True):
            centre = np.multiply(CHOROID, (side, 1, 1)) + place
            calcifications.append(_ball("calcification", centre, (size,) * 3, value))
    return calcifications


def _microbleed(pathology, rng):
    is_present = rng.random() < pathology.microbleed
    place = rng.choice(lesion_sites())
    radius = rng.uniform(*pathology.microbleed_radius)
    chi = rng.uniform(*pathology.blood_chi)
    return [_ball("haemorrhage", place, (radius,) * 3, chi)] if is_present else []


def _haemorrhage(pathology, rng):
    is_present = rng.random() < pathology.haemorrhage
    place = rng.choice(lesion_sites())
    radius = rng.uniform(*pathology.haemorrhage_radius)
    axes = radius * np.array([1.0, 1.2, 1 / 1.2])  # the volume is that of the ball
    chi = rng.uniform(*pathology.blood_chi)
    return [_ball("haemorrhage", place, axes, chi)] if is_present else []


def _cavernoma(pathology, rng):
    """Return a rim of haemosiderin, a quarter of the radius thick, and the core in it."""
    is_present = rng.random() < pathology.cavernoma
    place = rng.choice(lesion_sites())
    radius = rng.uniform(*pathology.cavernoma_radius)
    if not is_present:
        return []
    return [
        _ball("cavernoma_rim", place, (radius,) * 3, pathology.cavernoma_rim_chi),
        _ball("cavernoma", place, (0.75 * radius,) * 3, pathology.cavernoma_chi),
    ]


def _rims(pathology, lesions, rng):
    """Return rims of lesions, each with the lesion's own tissue painted into it again."""
    is_patient_with_rims = rng.random() < pathology.rim_patients
    fraction = pathology.rim_lesions / max(pathology.rim_patients, pathology.rim_lesions)
    draws = rng.random(len(lesions))
    if not is_patient_with_rims:
        return []
    rims = []
    for lesion, draw in zip(lesions, draws, strict=True):
        radius = min(lesion[3:6])
        if radius < SMALLEST_RIMMED or draw >= fraction:
            continue
        rims.append(_ball("lesion_rim", lesion[:3], lesion[3:6], pathology.rim_chi))
        core = np.subtract(lesion[3:6], pathology.rim_thickness)
        shape = {"ellipsoids": [(*lesion[:3], *core.tolist(), *lesion[6:])], "tubes": []}
        label = anatomy()["labels"]["lesion"]
        rims.append(Feature(shape, anatomy()["tissues"]["lesion"], label))
    return rims


def _rim_veins(pathology, rng):
    """Return veins that run along the brain's surface, upwards and towards the midline."""
    veins = []
    for side in (-1, 1):
        for _ in range(pathology.rim_veins):
            start = (side * rng.uniform(35, 60), rng.uniform(-80, 40), rng.uniform(15, 45))
            end = (side * 6.0, start[1] + rng.uniform(-10, 10), 70.0)
            radius = rng.uniform(*pathology.vein_radius)
            points = _on_surface(np.linspace(start, end, VEIN_POINTS + 3)[:VEIN_POINTS])
            tube = [(*point, radius) for point in points.tolist()]
            for piece in pieces({"ellipsoids": [], "tubes": [tube]}):
                tissue = anatomy()["tissues"]["vein"]
                veins.append(Feature(piece, tissue, anatomy()["labels"]["vein"]))
    return veins


def _on_surface(points):
    """Return the nearest points just within the brain's surface, shape (n, 3)."""
    distance = load_templates().brain_distance
    offsets = np.eye(3)[:, :, None]
    for _ in range(30):
        points = points.T
        depth = distance(np.float32(points)) + RIM_DEPTH
        slope = np.empty_like(points)
        for axis, offset in enumerate(offsets):
            ahead = distance(np.float32(points + offset))
            slope[axis] = (ahead - distance(np.float32(points - offset))) / 2
        steepness = np.maximum(np.sum(slope**2, axis=0), 0.25)
        points = (points - 0.7 * depth * slope / steepness).T
    return points


def _burr_hole(pathology, rng):
    """Return a hole through the skull, filled with soft tissue, on either side of the vertex."""
    is_present = rng.random() < pathology.burr_hole
    side = rng.choice([-1, 1])
    inner = np.array([[side * rng.uniform(25, 45), rng.uniform(-50, 30), 60.0]])
    if not is_present:
        return []
    inner = _on_surface(inner)[0]
    outwards = inner / np.linalg.norm(inner)
    radius = pathology.burr_hole_radius
    ends = [(*(inner + depth * outwards).tolist(), radius) for depth in (1.0, 5.0)]
    shape = {"ellipsoids": [], "tubes": [ends]}
    tissue = anatomy()["tissues"]["soft_tissue"]
    return [Feature(shape, tissue, LABELS["burr_hole"], outside_brain=True)]


def _ball(name, centre, axes, chi):
    """Return a finding in the form of an ellipsoid."""
    numbers = np.array([*centre, *axes, 0.0, 0.0, 0.0], float).tolist()
    tissue = {"chi": float(chi), **TISSUES[name]}
    return Feature({"ellipsoids": [tuple(numbers)], "tubes": []}, tissue, LABELS[name])
