"""Harmonisation takes away what sites add, keeps what people differ by, and is judged on people it
does not know.
"""

import numpy as np
import pandas as pd
import pytest

from multiqsm.stats.harmonization import combat, harmonization_effect, shift_and_scale, site_effects
from multiqsm.stats.reproducibility import within_subject_sd

ROIS = ("caudate", "putamen", "pallidum", "rednucleus", "nigra")
SHIFT = np.array([6.0, -9.0, 3.0])
SCALE = np.array([1.0, 0.8, 1.2])


def roi_table(values):
    """Long table of ppb values of shape (ROIs, subjects, sites, scans)."""
    r, s, a, i = np.indices(values.shape).reshape(4, -1)
    return pd.DataFrame(
        {
            "subject": [f"{n:02d}" for n in s],
            "site": np.array(list("ABC"))[a],
            "scan": i + 1,
            "method": "iterative",
            "roi": np.array(ROIS)[r],
            "mean": values.ravel() / 1000,
            "sd": 0.01,
            "unit": "ppm",
        }
    )


def people(rng, n=9, n_rois=5):
    return 60 + rng.normal(0, 15, (n_rois, n, 1, 1))


def distort(values):
    """Apply the site effects: a shift of each site, and a scale of the distance from 60 ppb."""
    return 60 + SHIFT[:, None] + SCALE[:, None] * (values - 60)


def wide(table):
    """Array (ROIs, subjects, sites, scans) in ppb of a complete table."""
    cells = table.set_index(["roi", "subject", "site", "scan"])["mean"].reindex(ROIS, level="roi")
    return 1000 * cells.to_numpy().reshape(5, -1, 3, cells.index.get_level_values("scan").max())


def test_shifts_and_scales_without_noise_go_away():
    truth = np.broadcast_to(people(np.random.default_rng(0)), (5, 9, 3, 2))
    harmonised = wide(shift_and_scale(roi_table(distort(truth))))
    assert np.allclose(harmonised, harmonised[:, :, :1, :1], atol=1e-9)
    # The pooled mean and spread are those of the sites together.
    before = distort(truth)[..., 0]
    assert harmonised.mean(axis=(1, 2, 3)) == pytest.approx(before.mean(axis=(1, 2)))
    pooled = np.sqrt(before.var(axis=1, ddof=1).mean(axis=1))
    assert harmonised[:, :, 0, 0].std(axis=1, ddof=1) == pytest.approx(pooled)


def test_effects_of_sites():
    truth = np.broadcast_to(people(np.random.default_rng(1)), (5, 9, 3, 2))
    table = roi_table(distort(truth))
    effects = site_effects(table).set_index(["roi", "site"]).loc["putamen"]
    cells = distort(truth)[1, :, :, 0]
    assert effects["shift"].to_numpy() == pytest.approx(cells.mean(axis=0) - cells.mean())
    assert effects["scale"].to_numpy() == pytest.approx(SCALE / np.sqrt(np.mean(SCALE**2)))
    assert (effects["n_subjects"] == 9).all()
    assert (effects["n_left_out"] == 0).all()


def test_subjects_scanned_at_one_site_only_are_harmonised_by_the_others():
    truth = np.broadcast_to(people(np.random.default_rng(2), n=10), (5, 10, 3, 2))
    table = roi_table(distort(truth))
    fewer = table[(table["subject"] != "04") | (table["site"] == "B")]
    expected = shift_and_scale(table[table["subject"] != "04"])
    harmonised = shift_and_scale(fewer)
    is_travelling = harmonised["subject"] != "04"
    assert harmonised.loc[is_travelling, "mean"].to_numpy() == pytest.approx(
        expected["mean"].to_numpy()
    )
    left_out = site_effects(fewer).groupby("site")["n_left_out"].unique().map(list).to_dict()
    assert left_out == {"A": [0], "B": [1], "C": [0]}
    # It ends where the same person's scans at the other sites would.
    assert harmonised.loc[~is_travelling, "mean"].to_numpy() == pytest.approx(
        wide(shift_and_scale(table, leave_one_out=True))[:, 4, 1].ravel() / 1000
    )


def test_leave_one_out_does_not_know_the_subject():
    rng = np.random.default_rng(3)
    table = roi_table(distort(people(rng) + rng.normal(0, 4, (5, 9, 3, 3))))
    for harmonise in (shift_and_scale, combat):
        harmonised = harmonise(table, leave_one_out=True)
        changed = table.copy()
        own = changed["subject"] == "02"
        changed.loc[own, "mean"] += 0.5
        again = harmonise(changed, leave_one_out=True)
        # The model of this subject is that of all others: the same line maps its values, wherever
        # they are.
        shared = harmonised.loc[own, "mean"].to_numpy(), again.loc[own, "mean"].to_numpy()
        scale = site_effects(table[~own], model=harmonise.__name__).set_index(["roi", "site"])[
            "scale"
        ]
        scale = scale.loc[
            list(zip(table.loc[own, "roi"], table.loc[own, "site"], strict=True))
        ].to_numpy()
        assert shared[1] - shared[0] == pytest.approx(0.5 / scale)


def test_gain_on_known_people_is_an_illusion_where_sites_do_not_differ():
    rng = np.random.default_rng(4)
    ratios = {False: [], True: []}
    for _ in range(8):
        table = roi_table(people(rng, n=5) + rng.normal(0, 4, (5, 5, 3, 2)))
        for honest, site_ratios in ratios.items():
            effect = harmonization_effect(table, shift_and_scale(table, leave_one_out=honest))
            site_ratios.append(effect.loc[effect["measure"] == "site_means", "ratio"].mean())
    assert np.mean(ratios[False]) < 0.92
    assert np.mean(ratios[True]) > 1.02


def test_effect_of_harmonisation():
    rng = np.random.default_rng(5)
    table = roi_table(distort(people(rng) + rng.normal(0, 1, (5, 9, 3, 4))))
    after = shift_and_scale(table, leave_one_out=True)
    effect = harmonization_effect(table, after)
    assert len(effect) == 5 * 6
    pivot = effect.pivot(index="roi", columns="measure", values="ratio")
    assert (pivot["site_means"] < 0.25).all()
    assert (pivot["cross"] < 0.4).all()
    assert pivot["between_subjects"].to_numpy() == pytest.approx(1, abs=0.15)
    sdw = within_subject_sd(after).set_index(["roi", "definition"])["sdw"]
    row = effect[(effect["roi"] == "nigra") & (effect["measure"] == "all_scans")].iloc[0]
    assert row["after"] == pytest.approx(sdw["nigra", "all_scans"])
    assert row["ratio"] == pytest.approx(row["after"] / row["before"])
    with pytest.raises(ValueError, match="same scans"):
        harmonization_effect(table, after.iloc[1:])


def unlike_people(rng, n=60, n_rois=5, noise=2.0):
    """One scan each of different people at three sites, the older ones at the third; ROIs rise with
    age.
    """
    site = np.arange(n) % 3
    age = rng.integers(20, 60, n) + 15 * (site == 2)
    sex = np.where(rng.random(n) < 0.5, "F", "M")
    level = 60 + 0.8 * age + 5 * (sex == "M")
    values = level + rng.normal(0, noise, (n_rois, n)) * SCALE[site] + SHIFT[site]
    rows = [
        pd.DataFrame(
            {"subject": np.arange(n).astype(str), "site": np.array(list("ABC"))[site], "scan": 1}
        )
        .assign(method="iterative", roi=roi, mean=v / 1000, unit="ppm", age=age, sex=sex)
        .astype({"sex": object})
        for roi, v in zip(ROIS, values, strict=False)
    ]
    return pd.concat(rows, ignore_index=True), level


@pytest.mark.parametrize("harmonise", [shift_and_scale, combat])
def test_what_covariates_explain_stays(harmonise):
    table, level = unlike_people(np.random.default_rng(6))
    harmonised = harmonise(table, covariates=["age", "sex"])
    remainder = 1000 * harmonised["mean"].to_numpy().reshape(5, -1) - level
    by_site = np.stack([remainder[:, s::3].mean(axis=1) for s in range(3)])
    assert np.ptp(by_site, axis=0).max() < 1.5  # 15 before, and the third site's age is 12 ppb
    assert remainder.std() < 2.5
    without = site_effects(table, model=harmonise.__name__, covariates=["age", "sex"])
    assert (without["n_subjects"] == 20).all()


def test_shift_and_scale_is_the_linear_model():
    table, _ = unlike_people(np.random.default_rng(7))
    putamen = table[table["roi"] == "putamen"]
    design = np.column_stack(
        [putamen["site"] == s for s in "ABC"] + [putamen["age"], putamen["sex"] == "M"]
    ).astype(float)
    beta, _, _, _ = np.linalg.lstsq(design, 1000 * putamen["mean"].to_numpy())
    effects = (
        site_effects(table, covariates=["age", "sex"]).set_index(["roi", "site"]).loc["putamen"]
    )
    assert effects["shift"].to_numpy() == pytest.approx(beta[:3] - beta[:3].mean())
    residual = 1000 * putamen["mean"].to_numpy() - design @ beta
    squares = [np.mean(residual[putamen["site"] == s] ** 2) for s in "ABC"]
    assert effects["scale"].to_numpy() == pytest.approx(np.sqrt(squares / np.mean(residual**2)))


@pytest.mark.parametrize("n_rois", [2, 5])
def test_combat_agrees_with_neurocombat(monkeypatch, capsys, n_rois):
    reference = pytest.importorskip(
        "neuroCombat.neuroCombat", reason="the authors' implementation of ComBat"
    )
    table, _ = unlike_people(np.random.default_rng(8), n_rois=n_rois)
    caudate = table[table["roi"] == "caudate"]
    # It stops at changes of 1e-4; so that both are converged, go on.
    monkeypatch.setattr(reference.it_sol, "__defaults__", (1e-12,))
    expected = reference.neuroCombat(
        1000 * table["mean"].to_numpy().reshape(n_rois, -1),
        caudate[["site", "age", "sex"]],
        "site",
        categorical_cols=["sex"],
        continuous_cols=["age"],
    )
    capsys.readouterr()
    harmonised = combat(table, covariates=["age", "sex"])
    assert 1000 * harmonised["mean"].to_numpy().reshape(n_rois, -1) == pytest.approx(
        expected["data"], abs=1e-6
    )


def test_combat_shrinks_towards_the_mean_over_rois():
    rng = np.random.default_rng(9)
    table, _ = unlike_people(rng, noise=12.0)
    shifts = {
        model: site_effects(table, model=model, covariates=["age", "sex"]).pivot(
            index="roi", columns="site", values="shift"
        )
        for model in ("shift_and_scale", "combat")
    }
    spread = {model: values.std() for model, values in shifts.items()}
    assert (spread["combat"] < spread["shift_and_scale"]).all()


def test_incomplete_tables():
    rng = np.random.default_rng(10)
    table = roi_table(distort(people(rng) + rng.normal(0, 4, (5, 9, 3, 3))))
    lost = (table["subject"] == "01") & (table["site"] == "A") & (table["roi"] == "nigra")
    table.loc[lost, "mean"] = np.nan
    table = pd.concat([table, table[table["roi"] == "putamen"].assign(roi="csf", mean=0.0)])
    for harmonise, n_putamen in ((shift_and_scale, 9), (combat, 8)):
        harmonised = harmonise(table)
        assert len(harmonised) == 5 * 9 * 9
        assert "sd" not in harmonised
        assert harmonised["mean"].isna().sum() == 3
        n = site_effects(table, model=harmonise.__name__).set_index(["roi", "site"])
        assert n.loc[("putamen", "A"), "n_subjects"] == n_putamen
        assert n.loc[("nigra", "A"), ["n_subjects", "n_left_out"]].tolist() == [8, 0]


def test_bad_input_is_refused():
    rng = np.random.default_rng(11)
    table = roi_table(people(rng, n=3) + rng.normal(0, 4, (5, 3, 3, 1)))
    assert shift_and_scale(table)["mean"].notna().all()
    with pytest.raises(ValueError, match=r"site A has 2 subjects .* caudate"):
        shift_and_scale(table, leave_one_out=True)
    with pytest.raises(ValueError, match="site A has 2 subjects"):
        combat(table, leave_one_out=True)
    two_people = table[table["subject"].isin(table["subject"].unique()[:2])]
    with pytest.raises(ValueError, match="site A has 1 subject to estimate"):
        shift_and_scale(two_people, leave_one_out=True)
    with pytest.raises(ValueError, match="two or more"):
        combat(table[table["roi"] == "nigra"])
    with pytest.raises(ValueError, match="no column age"):
        shift_and_scale(table, covariates=["age"])
    with pytest.raises(ValueError, match="age is missing"):
        shift_and_scale(table.assign(age=np.nan), covariates=["age"])
    with pytest.raises(ValueError, match="same in all rows"):
        shift_and_scale(table.assign(age=table["site"]), covariates=["age"])
    with pytest.raises(ValueError, match="collinear"):
        shift_and_scale(table.assign(height=1.7), covariates=["height"])
    flat = table.assign(mean=table["mean"].where(table["site"] != "B", 0.05))
    with pytest.raises(ValueError, match="no scale"):
        shift_and_scale(flat)
    with pytest.raises(ValueError, match="unknown"):
        site_effects(table, model="mean")
