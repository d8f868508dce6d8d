"""Fields of sidecars that the reporting checklist need not have, and columns without levels."""

from pathlib import Path

from pandas.api.types import is_numeric_dtype

from multiqsm.bids_templates import load_template
from multiqsm.dataset.files import read_json
from multiqsm.dataset.tables import read_tsv

# What describes the file or identifies the scan, and results, which are no parameters.
BOOKKEEPING = {
    # the file
    *("Description", "Sources", "SpatialReference", "SkullStripped", "Type", "InputDecisions"),
    # the scan; the centre frequency in use is reported
    *("Site", "SiteSource", "ImagingFrequency", "DeviceSerialNumber", "StationName"),
    # the protocol of all scans; what it makes of each scan is reported
    *("HarmonizedTo", "VoxelSize", "VoxelSizeAxes", "EchoTimeRange", "NumberOfScans"),
    # results: mask
    *("BrainMaskFractionOfImage", "BrainMaskFractionUnresolved", "BrainMaskVoxelsFilled"),
    *("BrainMaskVoxelsTrimmed", "BrainMaskVoxelsUnresolved", "BackgroundMaskVoxelsLost"),
    *("VoxelsWithoutWeight", "VoxelsWithoutWeightFraction", "VoxelsWithoutSignal"),
    # results: images and fields
    *("EvenEchoPhaseScatter", "VoxelsWithoutPhase", "MagnitudeScale", "AlternatingSignUndone"),
    *("NonFiniteVoxelsSetToZero", "UnresolvedVoxels", "MagnitudeNoiseStandardDeviation"),
    *("MagnitudeNoiseSource", "MedianFieldStandardError", "LocalFieldStandardDeviation"),
    *("MagnitudeNoiseOfEchoes", "FirstEchoSignalToNoise"),
    *("MedianFieldNoiseError", "MedianFieldSystematicError"),
    *("LocalFieldRobustStandardDeviation", "SignAsymmetry", "SignLooksWrong"),
    # results: inversion
    "InversionConverged",
    # results: reference region
    *("ReferenceCentres", "ReferenceDepths", "ReferenceMeanR2star", "ReferenceVolumeLeft"),
    *("ReferenceVolumeRight", "ReferenceVoxelsOfSides"),
    # the noise of regional means, for the tables of regions
    *("ClosedFormLambda", "DataWeightFollowsNoise"),
    # R2*, regions and lesions, which the checklist does not ask for
    *("R2starFit", "RegionsFrom", "FreeSurferLabels", "FreeSurferLabelsRegisteredBy"),
    *("FreeSurferRegistration", "FreeSurferMutualInformation", "LesionSource", "Lesions"),
    *("Seeds", "SeedsNotGrown", "Volume", "VolumeUnits", "VoxelsByAddedMask"),
    "VoxelsByRemovedMask",
}

# Columns of texts that are not from a list: names that the user or the dataset chose, sentences,
# and lists of numbers.
OPEN_COLUMNS = {
    *("subject", "participant", "session", "run", "scan", "site", "task", "acquisition"),
    *("ceagent", "reconstruction", "chunk", "echo_number", "echo_times", "voxel_size", "protocol"),
    *("roi", "roi_1", "roi_2", "nuclei", "name", "unit", "processor", "image"),
    *("first", "second"),  # sites or inversions, by the column comparison
    *("note", "warning", "reason", "doubts", "what", "problem", "source"),
    *("lambda_at_bound", "not_converged"),  # names of inversions
    *("outcome", "predictor", "term", "adjusted_for", "column", "formula", "most_inflated"),
    *("leverage_of", "cook_of", "studentised_of"),
    *("published_before_text", "published_after_text"),
    *("item", "applies_to", "value", "fields"),
}


def columns_without_levels(root):
    """Return the columns of a folder's tables whose texts are from a list, and whose sidecar lacks
    their levels.
    """
    lacking = set()
    for path in Path(root).rglob("*.tsv"):
        described = read_json(path.with_suffix(".json"))
        table = read_tsv(path).dropna(axis=1, how="all")
        for column in set(table) - OPEN_COLUMNS:
            values = table[column].dropna()
            is_text = values.dtype == bool or not is_numeric_dtype(values)
            levels = described.get(column, {}).get("Levels", {})
            if is_text and not set(map(str, values)) <= set(levels):
                lacking.add((path.name, column))
    return lacking


def unreported_fields(fields):
    """Return those fields that are neither in the reporting checklist nor bookkeeping."""
    unreported = set(fields) - BOOKKEEPING
    for item in load_template("checklist")["items"]:
        unreported.difference_update(item["fields"])
    return unreported
