"""Fields of sidecars that the reporting checklist need not have."""

from multiqsm.bids_templates import load_template

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
    "BrainMaskFractionTrimmed",
    *("BrainMaskVoxelsTrimmed", "BrainMaskVoxelsUnresolved", "BackgroundMaskVoxelsLost"),
    *("VoxelsWithoutWeight", "VoxelsWithoutWeightFraction", "VoxelsWithoutSignal"),
    # results: images and fields
    *("EvenEchoPhaseScatter", "VoxelsWithoutPhase"),
    *("NonFiniteVoxelsSetToZero", "UnresolvedVoxels", "MagnitudeNoiseStandardDeviation"),
    *("MagnitudeNoiseSource", "MedianFieldStandardError", "LocalFieldStandardDeviation"),
    *("MagnitudeNoiseOfEchoes", "FirstEchoSignalToNoise"),
    *("MedianFieldNoiseError", "MedianFieldSystematicError"),
    *("LocalFieldRobustStandardDeviation", "SignAsymmetry", "SignLooksWrong"),
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


def unreported_fields(fields):
    """Return those fields that are neither in the reporting checklist nor bookkeeping."""
    unreported = set(fields) - BOOKKEEPING
    for item in load_template("checklist")["items"]:
        unreported.difference_update(item["fields"])
    return unreported
