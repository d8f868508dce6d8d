"""Make the tables of docs/ again.

    python docs/tables.py                       list the recipes: page, name and commands
    python docs/tables.py NAME ... --work DIR   run recipes; needs the installed package

Each recipe runs its commands in order and writes what they print to DIR/NAME.txt, below a line with
the version and the commit of the code. Figures of benchmarks are written to DIR as well, while
docs/pictures.py writes to docs. Simulated studies stay in DIR, where several recipes share them,
and an interrupted recipe continues when it is given again. Recipes for data that are not part of
the repository name them in capitals; `--data NAME=FOLDER` says where they are.
"""

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

from multiqsm import __version__

ROOT = Path(__file__).parents[1]
DEMO = (
    "multiqsm-simulate demo/raw --design demo --ideal",
    "multiqsm demo/raw demo/derivatives participant",
)
STUDY = (
    "multiqsm-simulate study --design study --voxel-size 2 2 2 --ideal",
    "multiqsm study study-pdf participant --background pdf --edge-fraction 0.2",
    "multiqsm study study-pdf group",
)
THALAMUS = (
    "multiqsm-simulate thalamus --design thalamus --tables-only",
    "multiqsm thalamus thalamus-out group --model thalamus"
    " --phenotype thalamus/derivatives/truth/phenotype/thalamus.tsv",
)
# Effects of the table of COSMOS: all of a head but eddy_currents, coils and noise.
COSMOS_EFFECTS = (
    "breathing pulsation motion truncation flow anisotropy microstructure pathology skull_base"
)
RECIPES = {
    "audit": {
        "offsets": ("offsets.py",),
        "sign": ("sign.py --bids-dirs REAL_BIDS SPHERE_3T --fields TR_1_1 TR_2_4",),
    },
    "background": {"background": ("background.py --figure background.png",)},
    "benchmarks": {
        "steps": ("run.py PHANTOM --repeats 7",),
        "choices": ("accuracy.py choices",),
        "lesions": ("lesions.py",),
        "lesions-as-background": ("lesions.py --holes-are-background",),
    },
    "faults": {
        "kills": ("faults.py kills --n 60",),
        "disk": ("faults.py disk",),
        "inputs": tuple(f"faults.py inputs --seed {seed}" for seed in (0, 1, 2)),
        "foreign": ("faults.py inputs --kinds foreign --n 23",),
        "misleading-studies": ("faults.py studies",),
        "random-files": ("fuzz.py --n 600 --seed 1",),
    },
    "harmonization": {"harmonization": ("harmonization.py harmonization",)},
    "methods": {
        "unwrapping": ("unwrapping.py heads",),
        "unwrapping-real": ("unwrapping.py real REAL_BIDS --participant-label crop7T",),
        "maps": ("methods.py maps",),
        "automatic-mask": ("methods.py maps --automatic-mask --sites A",),
        "streaking": ("methods.py streaking --figure streaking.png",),
        "timing": ("methods.py timing",),
        "in-vivo": (
            "invivo.py IN_VIVO --rules whitened gcv scaled",
            "invivo.py IN_VIVO --subjects tr-1-1 --methods deterministic iterative medi"
            " --rules whitened scaled --figure in_vivo.png",
        ),
        "inversions": (
            "multiqsm REAL_BIDS real participant",
            "methods.py picture real --figure inversions.png",
        ),
    },
    "patients": {
        "patients": (
            "multiqsm-simulate patients --design thalamus --subjects 5 --voxel-size 1.5 1.5 2"
            " --ideal",
            "multiqsm-simulate patients-2mm --design thalamus --subjects 5 --voxel-size 2 2 2.5"
            " --ideal",
            "patients.py lesions patients",
            "multiqsm patients whole participant --preset chiang2018 --no-exclude-veins",
            "multiqsm patients without-veins participant --preset chiang2018",
            "multiqsm patients-2mm whole-2mm participant --preset chiang2018 --no-exclude-veins",
            "multiqsm patients-2mm without-veins-2mm participant --preset chiang2018",
            "patients.py thalamus patients whole without-veins",
            "patients.py thalamus patients-2mm whole-2mm without-veins-2mm",
        ),
        "patients-rough": (
            "multiqsm-simulate patients-rough --design thalamus --subjects 2 --voxel-size 2 2 2.5",
            "multiqsm patients-rough rough-patients-out participant --preset chiang2018",
            "patients.py thalamus patients-rough rough-patients-out",
        ),
        "patients-fine": (
            "multiqsm-simulate patients-fine --design thalamus --subjects 5 --ideal",
            "patients.py lesions patients-fine",
            "multiqsm patients-fine whole-fine participant --participant-label 001 002"
            " --preset chiang2018 --no-exclude-veins",
            "multiqsm patients-fine without-veins-fine participant --participant-label 001 002"
            " --preset chiang2018",
            "patients.py thalamus patients-fine whole-fine without-veins-fine",
        ),
    },
    "quality": {
        "quality": (
            *DEMO,
            "multiqsm-simulate phantom --design phantom --runs 1 --ideal",
            "multiqsm phantom phantom-out participant",
            "multiqsm REAL_BIDS real participant",
            "multiqsm SPHERE_3T sphere participant",
            "plausibility.py table demo/derivatives phantom-out real sphere",
            "plausibility.py widen REAL_BIDS real wide-masks --by 9",
            "multiqsm REAL_BIDS real-wide participant --derivatives wide-masks",
            "plausibility.py table real-wide",
        ),
    },
    "reproducibility": {
        "study": (
            *STUDY,
            "reproducibility.py study study-pdf",
            "docs/pictures.py study study-pdf",
        ),
        "references": (
            "multiqsm-simulate coarse --design demo --subjects 3 --runs 3 --voxel-size 3 3 3"
            " --ideal",
            "multiqsm coarse coarse-out participant",
            "multiqsm coarse coarse-out group",
            "cat coarse-out/group/references.tsv",
        ),
        "nuclei": (
            *DEMO,
            "multiqsm demo/raw demo/derivatives group",
            "cat demo/derivatives/group/nuclei.tsv",
        ),
    },
    "scaling": {
        "scaling": (
            "scaling.py run --work scaling --scans 135",
            "scaling.py plan --work scaling --scans 500 1000 2000",
            "scaling.py group --work scaling --scans 500 1000 2000",
            "scaling.py overhead --work scaling",
        ),
        "extrapolation": ("scaling.py extrapolate --scans 135 5000 50000",),
    },
    "simulation": {
        "demo-pictures": (*DEMO, "docs/pictures.py demo demo"),  # this page's and the README's
        "head": ("accuracy.py head",),
        "simulated": (
            "simulated.py air",
            "simulated.py gradient",
            "simulated.py kspace",
            "simulated.py phases",
            "simulated.py patients",
        ),
        "forward": ("forward.py --command QSM_FORWARD --work forward",),
        "roughness": (
            "roughness.py field --in-vivo TR_1_1 TR_2_4",
            "roughness.py field --effects anisotropy microstructure",
            f"roughness.py cosmos --effects {COSMOS_EFFECTS}",
            "roughness.py cosmos --voxel-size 3 3 3",
        ),
        "effects": (
            "effects.py each --runs 3 --voxel-size 2.5 2.5 2.5",
            "effects.py lines",
            "multiqsm-simulate rough --design study --subjects 3 --runs 3 --voxel-size 2 2 2",
            "multiqsm rough rough-out participant --preset lin2015 --se-draws 0",
            "multiqsm rough rough-out group --preset lin2015",
            "cat rough-out/group/imprecision_summary.tsv",
            "effects.py picture --voxel-size 3 3 3 --figure effects.png",
            "effects.py sites --figure rough_scans.png",
        ),
        "scans": (
            "multiqsm-simulate scans --design study --subjects 1 --runs 1 --ideal",
            "multiqsm scans scans-out participant --background pdf",
            "accuracy.py scans scans scans-out",
        ),
        "calibration": (
            "multiqsm-simulate study --design study --voxel-size 2 2 2 --ideal",
            "multiqsm study study-tfi participant",
            "multiqsm study study-tfi group",
            "cat study-tfi/group/calibration.tsv",
        ),
    },
    "studies": {
        "studies": (
            "multiqsm-simulate lin --design study --subjects 3 --runs 3 --ideal",
            "multiqsm lin lin-out participant --preset lin2015 --se-draws 0",
            "multiqsm lin lin-out group --preset lin2015",
            *THALAMUS,
            "multiqsm-simulate patients --design thalamus --subjects 5 --voxel-size 1.5 1.5 2"
            " --ideal",
            "multiqsm patients patients-out participant --preset chiang2018 --se-draws 0",
            "docs/studies.py lin-out thalamus-out patients-out",
            "docs/pictures.py studies lin-out patients-out",
        )
    },
    "thalamus": {
        "thalamus": (
            *THALAMUS,
            "cat thalamus-out/group/model-thalamus/descriptives.tsv",
            "cat thalamus-out/group/model-thalamus/before_and_after.tsv",
            "cat thalamus-out/group/model-thalamus/covariates.tsv",
            "cat thalamus-out/group/model-thalamus/power.tsv",
            "cat thalamus-out/group/model-thalamus/ladder.tsv",
        ),
        "coverage": ("coverage.py",),
    },
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--work", type=Path, help="folder for studies and results")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=FOLDER")
    options = parser.parse_args()
    recipes = recipes_by_name()
    if not options.names:
        print_recipes()
        return
    unknown = set(options.names) - set(recipes)
    if unknown:
        parser.error(f"no recipe is called {', '.join(sorted(unknown))}")
    if options.work is None:
        parser.error("--work DIR is needed")
    folders = dict(argument.split("=", 1) for argument in options.data)
    commands_by_name = {}
    for name in options.names:
        commands_by_name[name] = [insert_data(command, folders) for command in recipes[name]]
        lacking = sorted({word for c in commands_by_name[name] for word in data_names(c)})
        if lacking:
            parser.error(f"{name} needs --data {' '.join(f'{word}=FOLDER' for word in lacking)}")
    options.work.mkdir(parents=True, exist_ok=True)
    for name, commands in commands_by_name.items():
        run_recipe(name, commands, options.work)


def recipes_by_name():
    """Commands of all pages' recipes by name."""
    recipes = {}
    for page, page_recipes in RECIPES.items():
        repeated = set(recipes) & set(page_recipes)
        if repeated:
            sys.exit(
                f"the recipe {', '.join(repeated)} of docs/{page}.md has a name of another page"
            )
        recipes |= page_recipes
    return recipes


def print_recipes():
    """Print every recipe below the page that has its table."""
    for page, recipes in RECIPES.items():
        print(f"docs/{page}.md")
        for name, commands in recipes.items():
            print(f"  {name}")
            for command in commands:
                print(f"    {command}")


def data_names(command):
    """Names in capitals: data that are not part of the repository."""
    return [word for word in command.split() if re.fullmatch(r"[A-Z][A-Z0-9_]{2,}", word)]


def insert_data(command, folders):
    """The command with folders, as absolute paths, in place of the names of data."""
    for name in data_names(command):
        if name in folders:
            command = command.replace(name, shlex.quote(str(Path(folders[name]).resolve())))
    return command


def run_recipe(name, commands, work):
    """Run the commands in `work`, stop at the first that fails, and keep what they print."""
    text = work / f"{name}.txt"
    with text.open("w") as output:
        print(f"multiqsm {__version__}, commit {commit()}", file=output, flush=True)
        for command in commands:
            print(f"\n$ {command}", file=output, flush=True)
            print(command, flush=True)
            completed = subprocess.run(arguments_of(command), cwd=work, stdout=output)
            if completed.returncode:
                sys.exit(f"{name}: exit code {completed.returncode} of: {command}")
    print(f"{name}: {text}")


def arguments_of(command):
    """Words of a command, with the path of a benchmark or of an installed command."""
    program, *words = shlex.split(command)
    if program.endswith(".py"):
        folder = "" if "/" in program else "benchmarks"
        return [sys.executable, str(ROOT / folder / program), *words]
    if program.startswith("multiqsm"):
        return [str(Path(sys.executable).parent / program), *words]
    return [program, *words]


def commit():
    """The commit of this checkout, with a plus sign if files differ from it."""
    arguments = ("git", "describe", "--always", "--dirty=+")
    return subprocess.check_output(arguments, cwd=ROOT, text=True).strip()


if __name__ == "__main__":
    main()
