"""The dashboard of the model: drift, quality by labels that came later, and the objectives of the chosen releases.

Requests, latency and resources are the dashboard of the service's.
"""

import sys

from grafana_foundation_sdk.builders import barchart, common, table
from grafana_foundation_sdk.models import common as models
from panels import (
    MODELS,
    PODS,
    RATE,
    RECORDED,
    RELEASES,
    VERSIONS,
    Panel,
    build,
    graph,
    joined,
    number,
    quantile,
    query,
)

FEATURE, PREDICTION = f'{RECORDED},role="feature"', f'{RECORDED},role="prediction"'
CHOSEN = f'{FEATURE},variable=~"$feature"'
STACKED = common.StackingConfig().mode(models.StackingMode.NORMAL).group("A")


def glance() -> list[Panel]:
    """Return what one looks at first."""
    psi = "Population stability index: under 0.1 is stable, above 0.2 has moved."
    age = f"time() - max(model_trained_timestamp_seconds{{{MODELS}}})"
    weighted = f"max(model:feature_psi_importance_weighted:short{{{RECORDED}}})"
    model = "namespace, job, model_name, model_version"
    served = f"count by ({model}) (model_info{{{MODELS}}})"
    without = (
        f"count({served} unless on ({model}) model_reference_distribution_ratio{{{MODELS}}}) or count({served}) * 0"
    )
    shown = [
        number(
            "Prediction drift", psi, "none", f"max(model:distribution_psi:short{{{PREDICTION}}})", 0.1, 0.2
        ).decimals(2),
        number("Worst feature", psi, "none", f"max(model:distribution_psi:short{{{FEATURE}}})", 0.1, 0.25).decimals(2),
        number(
            "Drift that matters", "Drift of all features, each weighed by its importance.", "none", weighted, 0.1, 0.2
        ).decimals(2),
        number(
            "AUC", "Of the predictions with a label.", "none", f"min(model:feedback_auc:long{{{RECORDED}}})"
        ).decimals(3),
        number("Model age", "Since the oldest model that is served was trained.", "s", age, 7776000, 15552000),
        number(
            "Values compared",
            "Predictions in the window; drift needs at least 200.",
            "none",
            f"sum(model:distribution_samples:increase_short{{{PREDICTION}}})",
        ).decimals(0),
        number(
            "Without a profile",
            "Models without a reference profile: nothing is known of their drift, whatever else is shown here.",
            "none",
            without,
            1,
        ),
        number("Models", "Models and versions that are served.", "none", f"count({served})"),
    ]
    return [panel.span(3) for panel in shown]


def predictions() -> list[Panel]:
    """Return how the answers are distributed."""
    live = f"avg by (bin) (model:distribution_values:ratio_short{{{PREDICTION}}})"
    reference = f"avg by (bin) (model:distribution_reference:ratio{{{PREDICTION}}})"
    floor = f"max by (variable) (model:distribution_psi_noise_floor:short{{{PREDICTION}}})"
    over_time = graph(
        "Shares over time",
        "Share of the predictions in each bin of the reference.",
        "percentunit",
        query(live, "{{bin}}"),
    )
    return [
        _compared("Predictions: live and reference", "bin of the reference", live, reference),
        over_time.stacking(STACKED).fill_opacity(60).max(1),
        graph(
            "Drift of the predictions",
            "PSI, what chance alone makes of so few values, and two other distances.",
            "none",
            query(f"max by (variable) (model:distribution_psi:short{{{PREDICTION}}})", "PSI {{variable}}"),
            query(floor, "chance {{variable}}"),
            query(
                f"max by (variable) (model:distribution_js_distance:short{{{PREDICTION}}})", "JS distance {{variable}}"
            ),
            query(f"max by (variable) (model:distribution_tvd:short{{{PREDICTION}}})", "TVD {{variable}}"),
        ),
    ]


def features() -> list[Panel]:
    """Return how the inputs are distributed."""
    live = f"avg by (bin) (model:distribution_values:ratio_short{{{CHOSEN}}})"
    reference = f"avg by (bin) (model:distribution_reference:ratio{{{CHOSEN}}})"
    outside = f"sum by (variable) (rate(model_feature_out_of_range_total{{{MODELS}}}{RATE}))"
    importance = f"max by (variable) (model_feature_importance_ratio{{{MODELS}}})"
    columns = {
        "variable": "feature",
        "Value #A": "PSI, short",
        "Value #B": "PSI, long",
        "Value #C": "importance",
        "Value #D": "missing, more than in training",
        "Value #E": "unseen categories",
        "Value #F": "out of range per second",
        "Value #G": "PSI, short, times importance",
    }
    listed = table.Panel().title("Features by drift").unit("none").decimals(3).span(24).height(10)
    listed = listed.description("The features that are counted; sort by a column to find what moved and matters.")
    of_feature = joined(
        listed,
        "variable",
        columns,
        f"max by (variable) (model:distribution_psi:short{{{FEATURE}}})",
        f"max by (variable) (model:distribution_psi:long{{{FEATURE}}})",
        importance,
        f"max by (variable) (model:feature_missing:delta_short{{{RECORDED}}})",
        # Of a number there are none.
        f'max by (variable) (model:distribution_values:ratio_short{{{FEATURE},bin="__unseen__"}})'
        f" or max by (variable) (model:distribution_psi:short{{{FEATURE}}}) * 0",
        outside,
        f"max by (variable) (model:distribution_psi:short{{{FEATURE}}}) * {importance}",
    )
    return [
        of_feature,
        _compared("Feature: live and reference", "bin of the reference, of the chosen feature", live, reference),
        graph(
            "Drift of the features",
            "PSI of each feature over the short window.",
            "none",
            query(f"max by (variable) (model:distribution_psi:short{{{FEATURE}}})", "{{variable}}"),
        ),
        graph(
            "Out of range",
            "Values per second outside what training saw: trees answer there as at its end.",
            "cps",
            query(outside, "{{variable}}"),
        ),
    ]


def quality() -> list[Panel]:
    """Return how good the predictions turned out to be."""
    by_bin = f"sum by (bin) (rate(model_feedback_score_sum_total{{{MODELS}}}{RATE}))"
    labels = f"sum by (bin) (rate(model_feedback_scores_total{{{MODELS}}}{RATE}))"
    positive = f'sum by (bin) (rate(model_feedback_scores_total{{{MODELS},outcome="positive"}}{RATE}))'
    scored = f"sum by (model_version) (model:feedback_scores:increase_long{{{RECORDED}"
    delays = [
        query(quantile(share, "model_feedback_delay_seconds", MODELS), f"p{share * 100:g}") for share in (0.5, 0.95)
    ]
    return [
        graph(
            "AUC over time",
            "Of the predictions with a label, beside the one of the training.",
            "none",
            query(f"min by (model_version) (model:feedback_auc:long{{{RECORDED}}})", "live {{model_version}}"),
            query(
                f'max by (model_version) (model_reference_metric{{{MODELS},metric="auc"}})',
                "training {{model_version}}",
            ),
        ),
        _compared(
            "Calibration",
            "bin of the score: mean score and share of positives",
            f"{by_bin} / ({labels} > 0)",
            f"{positive} / ({labels} > 0)",
            names=("mean score", "share of positives"),
        ),
        graph(
            "Errors",
            "Calibration error, mean squared error (of a score, the Brier score), and share of right classes.",
            "none",
            query(f"max by (model_version) (model:feedback_calibration_error:long{{{RECORDED}}})", "calibration error"),
            query(f"max by (model_version) (model:feedback_squared_error:mean_long{{{RECORDED}}})", "squared error"),
            query(f"min by (model_version) (model:feedback_accuracy:ratio_long{{{RECORDED}}})", "accuracy"),
        ),
        graph(
            "Positives",
            "What the reference's calibration expects of the scores, and the share among the labels. What is expected"
            " cannot see a changed meaning of the features.",
            "percentunit",
            query(f"avg by (model_version) (model:estimated_positive:ratio_short{{{RECORDED}}})", "expected"),
            query(f'{scored},outcome="positive"}}) / {scored}}})', "of the labels"),
        ),
        graph(
            "Labels",
            "Share of the predictions that have a label, and labels per second that were not scored.",
            "none",
            query(f"min by (model_version) (model:feedback_coverage:ratio_long{{{RECORDED}}})", "coverage"),
            query(f"sum by (reason) (rate(model_feedback_rejected_total{{{PODS}}}{RATE}))", "rejected: {{reason}}"),
        ),
        graph("Label delay", "From a prediction to its label.", "s", *delays),
    ]


def objectives() -> list[Panel]:
    """Return how fast the budgets are spent."""
    windows = ("1h", "6h", "1d", "3d")
    budget = f"(1 - max(job:slo_availability:ratio{{{RELEASES}}}))"
    burn = [
        query(f"max(job:http_server_errors:ratio_rate{window}{{{RELEASES}}}) / {budget}", window) for window in windows
    ]
    p99 = quantile(0.99, "http_server_request_duration_seconds", f'{PODS},path="/predict"')
    return [
        graph(
            "Error budget burn",
            "1 spends the month's budget in a month; alerts ring at 14.4 over 1 h, 6 over 6 h, 3 over 1 d, 1 over 3 d.",
            "none",
            *burn,
        ),
        graph(
            "Late predictions",
            "Share of the predictions that took longer than the objective.",
            "percentunit",
            query(f"max(job:http_server_slow:ratio_rate5m{{{RELEASES}}})", "5m"),
            query(f"max(job:http_server_slow:ratio_rate1h{{{RELEASES}}})", "1h"),
        ),
        graph(
            "p99 and objective",
            "99th percentile of /predict, and the time within which predictions shall be answered.",
            "s",
            query(p99, "p99"),
            query(f"min(job:slo_latency_threshold:seconds{{{RELEASES}}})", "objective"),
        ),
    ]


def _compared(title: str, what: str, first: str, second: str, names: tuple[str, str] = ("live", "reference")) -> Panel:
    """Return a bar chart of two values per bin."""
    panel = (
        barchart.Panel().title(title).description(f"By {what}.").unit("percentunit").x_field("bin").span(8).height(8)
    )
    return joined(panel, "bin", {"Value #A": names[0], "Value #B": names[1]}, first, second)


if __name__ == "__main__":
    description = "Drift, quality and objectives of the models that charts/model-service serves."
    rows = {
        "At a glance": glance(),
        "Predictions": predictions(),
        "Features": features(),
        "Quality, by labels that came later": quality(),
        "Objectives": objectives(),
    }
    feature = f"label_values(model_feature_importance_ratio{{{RECORDED}}}, variable)"
    sys.stdout.write(build("Model", "model-drift", description, "model_info", rows, VERSIONS | {"feature": feature}))
