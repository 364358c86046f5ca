"""Dashboard of the model: drift, quality by feedback labels, other versions, and service level objectives of releases.

The service dashboard shows requests, latency and resources.
"""

import sys

from grafana_foundation_sdk.builders import barchart, common, table
from grafana_foundation_sdk.models import common as models

from tools.generate.panels import (
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
    """Return the overview."""
    psi = "Population stability index (PSI). Below 0.1 is stable, above 0.2 has drifted."
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
        number(
            "Highest feature drift", psi, "none", f"max(model:distribution_psi:short{{{FEATURE}}})", 0.1, 0.25
        ).decimals(2),
        number(
            "Weighted drift", "Sum of the PSI of all features, weighted by importance.", "none", weighted, 0.1, 0.2
        ).decimals(2),
        number(
            "AUC", "AUC of the predictions with a label.", "none", f"min(model:feedback_auc:long{{{RECORDED}}})"
        ).decimals(3),
        number("Model age", "Time since the training of the oldest served model.", "s", age, 7776000, 15552000),
        number(
            "Compared predictions",
            "Predictions in the short window. Drift requires 200 by default.",
            "none",
            f"sum(model:distribution_samples:increase_short{{{PREDICTION}}})",
        ).decimals(0),
        number(
            "Models without a profile",
            "Served models without a reference profile. Their drift is unknown, whatever other panels show.",
            "none",
            without,
            1,
        ),
        number("Models", "Served models and versions.", "none", f"count({served})"),
    ]
    return [panel.span(3) for panel in shown]


def predictions() -> list[Panel]:
    """Return the distribution of the predictions."""
    live = f"avg by (bin) (model:distribution_values:ratio_short{{{PREDICTION}}})"
    reference = f"avg by (bin) (model:distribution_reference:ratio{{{PREDICTION}}})"
    floor = f"max by (variable) (model:distribution_psi_noise_floor:short{{{PREDICTION}}})"
    over_time = graph(
        "Prediction distribution over time",
        "Ratio of the predictions in each bin of the reference.",
        "percentunit",
        query(live, "{{bin}}"),
    )
    return [
        _compared(
            "Predictions: live and reference",
            "Ratio of the predictions in each bin of the reference.",
            live,
            reference,
        ),
        over_time.stacking(STACKED).fill_opacity(60).max(1),
        graph(
            "Prediction drift over time",
            "PSI, the PSI that chance alone can reach, and two other distances.",
            "none",
            query(f"max by (variable) (model:distribution_psi:short{{{PREDICTION}}})", "PSI {{variable}}"),
            query(floor, "PSI by chance {{variable}}"),
            query(
                f"max by (variable) (model:distribution_js_distance:short{{{PREDICTION}}})", "JS distance {{variable}}"
            ),
            query(f"max by (variable) (model:distribution_tvd:short{{{PREDICTION}}})", "TVD {{variable}}"),
        ),
    ]


def features() -> list[Panel]:
    """Return the distribution of the features."""
    live = f"avg by (bin) (model:distribution_values:ratio_short{{{CHOSEN}}})"
    reference = f"avg by (bin) (model:distribution_reference:ratio{{{CHOSEN}}})"
    outside = f"sum by (variable) (rate(model_feature_out_of_range_total{{{MODELS}}}{RATE}))"
    importance = f"max by (variable) (model_feature_importance_ratio{{{MODELS}}})"
    columns = {
        "variable": "feature",
        "Value #A": "PSI, short window",
        "Value #B": "PSI, long window",
        "Value #C": "importance",
        "Value #D": "missing ratio above training",
        "Value #E": "unseen category ratio",
        "Value #F": "out of range per second",
        "Value #G": "weighted PSI",
    }
    listed = table.Panel().title("Features by drift").unit("none").decimals(3).span(24).height(10)
    listed = listed.description(
        "Features with drift counters. Sort by weighted PSI to find important features that drifted."
    )
    of_feature = joined(
        listed,
        "variable",
        columns,
        f"max by (variable) (model:distribution_psi:short{{{FEATURE}}})",
        f"max by (variable) (model:distribution_psi:long{{{FEATURE}}})",
        importance,
        f"max by (variable) (model:feature_missing:delta_short{{{RECORDED}}})",
        # Numeric features have no unseen categories.
        f'max by (variable) (model:distribution_values:ratio_short{{{FEATURE},bin="__unseen__"}})'
        f" or max by (variable) (model:distribution_psi:short{{{FEATURE}}}) * 0",
        outside,
        f"max by (variable) (model:distribution_psi:short{{{FEATURE}}}) * {importance}",
    )
    return [
        of_feature,
        _compared(
            "Feature: live and reference",
            "Ratio of the values of the selected features in each bin of the reference.",
            live,
            reference,
        ),
        graph(
            "Feature drift over time",
            "PSI of each feature over the short window.",
            "none",
            query(f"max by (variable) (model:distribution_psi:short{{{FEATURE}}})", "{{variable}}"),
        ),
        graph(
            "Out-of-range values",
            "Values per second outside the range of training, where trees predict as at its bounds.",
            "cps",
            query(outside, "{{variable}}"),
        ),
    ]


def quality() -> list[Panel]:
    """Return the quality of the predictions by their labels."""
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
            "AUC of the predictions with a label, and AUC at training.",
            "none",
            query(f"min by (model_version) (model:feedback_auc:long{{{RECORDED}}})", "live {{model_version}}"),
            query(
                f'max by (model_version) (model_reference_metric{{{MODELS},metric="auc"}})',
                "training {{model_version}}",
            ),
        ),
        _compared(
            "Calibration",
            "Mean score and positive ratio in each bin of the score.",
            f"{by_bin} / ({labels} > 0)",
            f"{positive} / ({labels} > 0)",
            names=("mean score", "positive ratio"),
        ),
        graph(
            "Prediction quality",
            "Calibration error, mean squared error (for probabilities, the Brier score) and accuracy.",
            "none",
            query(f"max by (model_version) (model:feedback_calibration_error:long{{{RECORDED}}})", "calibration error"),
            query(f"max by (model_version) (model:feedback_squared_error:mean_long{{{RECORDED}}})", "squared error"),
            query(f"min by (model_version) (model:feedback_accuracy:ratio_long{{{RECORDED}}})", "accuracy"),
        ),
        graph(
            "Positive ratio",
            "Ratio expected from the scores and the reference calibration, and ratio among the labels. The expected"
            " ratio does not reflect a changed meaning of the features.",
            "percentunit",
            query(f"avg by (model_version) (model:estimated_positive:ratio_short{{{RECORDED}}})", "expected"),
            query(f'{scored},outcome="positive"}}) / {scored}}})', "labels"),
        ),
        graph(
            "Label coverage",
            "Ratio of the predictions with a label, and rejected labels per second.",
            "none",
            query(f"min by (model_version) (model:feedback_coverage:ratio_long{{{RECORDED}}})", "coverage"),
            query(f"sum by (reason) (rate(model_feedback_rejected_total{{{PODS}}}{RATE}))", "rejected: {{reason}}"),
        ),
        graph("Label delay", "Time from a prediction to its label.", "s", *delays),
    ]


def alias() -> list[Panel]:
    """Return what pods do that follow an alias."""
    checked = f"time() - min(model_alias_checked_timestamp_seconds{{{PODS}}})"
    refused = f"count(model_reload_refused_info{{{MODELS}}}) or count(model_alias_version{{{PODS}}}) * 0"
    served = f"count by (model_version) (model_info{{{MODELS}}})"
    outcomes = f"sum by (outcome) (increase(model_reloads_total{{{PODS}}}{RATE}))"
    numbers = [
        number(
            "Version of the alias", "Version that the alias names.", "none", f"max(model_alias_version{{{PODS}}})"
        ).decimals(0),
        number(
            "Last response about the alias",
            "Time since a pod last learned what the alias names.",
            "s",
            checked,
            300,
            900,
        ),
        number("Refused versions", "Pods that do not serve the version that the alias names.", "none", refused, 1),
    ]
    graphs = [
        graph("Pods by version", "Pods that serve each version.", "none", query(served, "{{model_version}}")),
        graph(
            "Versions that were tried",
            "Versions that the alias named, by outcome.",
            "none",
            query(outcomes, "{{outcome}}"),
        ),
    ]
    return [*(panel.span(8) for panel in numbers), *(panel.span(12) for panel in graphs)]


def challenger() -> list[Panel]:
    """Return the comparison of the served model with a challenger in the same pods."""
    pair = "{{model_version}} and {{challenger_version}}"
    by = "sum by (model_version, challenger_version)"
    rows = [
        query(f"{by} (rate(model_challenger_{name}_total{{{MODELS}}}{RATE}))", f"{title} {pair}")
        for name, title in (("rows", "compared"), ("dropped_rows", "left out"), ("errors", "failed"))
    ]
    gain = f"max by (model_version, challenger_version) (model:challenger_gain:mean_long{{{RECORDED}}})"
    return [
        graph(
            "Disagreement with the challenger",
            "Ratio of the rows on which both models disagree.",
            "percentunit",
            query(
                f"max by (model_version, challenger_version) (model:challenger_disagreement:ratio_long{{{RECORDED}}})",
                pair,
            ),
        ),
        graph("Rows of the challenger", "Rows per second that were compared, left out or failed.", "cps", *rows),
        number(
            "Gain of the challenger",
            "Mean of the served model's loss minus the challenger's, on the same labels. Above zero, the challenger is"
            " better.",
            "none",
            gain,
        )
        .decimals(4)
        .span(8)
        .height(8),
    ]


def canary() -> list[Panel]:
    """Return the comparison of the served model with the canary of the release."""
    requests, others = (f"sum(job:canary_{name}:increase{{{RELEASES}}})" for name in ("requests", "served_requests"))
    return [
        number("Canary requests", "Requests that the canary answered in the window.", "none", requests).decimals(0),
        number(
            "Canary share",
            "Share of the requests of both that it answered.",
            "percentunit",
            f"{requests} / ({requests} + {others})",
        ),
        number(
            "Canary errors",
            "Ratio of 5xx responses minus that of the served model.",
            "percentunit",
            f"max(job:canary_errors:delta{{{RELEASES}}})",
            0.005,
            0.01,
        ),
        number(
            "Canary latency",
            "99th percentile of the latency, divided by that of the served model.",
            "none",
            f"max(job:canary_latency_p99:ratio{{{RELEASES}}})",
            1.25,
            1.5,
        ).decimals(2),
        number(
            "Canary prediction drift",
            "PSI of the predictions minus that of the served model.",
            "none",
            f"max(job:canary_prediction_psi:delta{{{RELEASES}}})",
            0.1,
            0.2,
        ).decimals(2),
        number(
            "Canary AUC",
            "AUC by feedback labels minus that of the served model.",
            "none",
            f"min(job:canary_feedback_auc:delta{{{RELEASES}}})",
        ).decimals(3),
    ]


def objectives() -> list[Panel]:
    """Return the burn rate of the budgets."""
    windows = ("1h", "6h", "1d", "3d")
    budget = f"(1 - max(job:slo_availability:ratio{{{RELEASES}}}))"
    burn = [
        query(f"max(job:http_server_errors:ratio_rate{window}{{{RELEASES}}}) / {budget}", window) for window in windows
    ]
    p99 = quantile(0.99, "http_server_request_duration_seconds", f'{PODS},path="/predict"')
    return [
        graph(
            "Error budget burn rate",
            "1 spends the budget in exactly a month. Alerts fire above 14.4 over 1 h, 6 over 6 h, 3 over 1 d and 1 over"
            " 3 d.",
            "none",
            *burn,
        ),
        graph(
            "Slow predictions",
            "Ratio of the predictions that took longer than the latency objective.",
            "percentunit",
            query(f"max(job:http_server_slow:ratio_rate5m{{{RELEASES}}})", "5m"),
            query(f"max(job:http_server_slow:ratio_rate1h{{{RELEASES}}})", "1h"),
        ),
        graph(
            "p99 latency and objective",
            "99th percentile of the latency of /predict, and the latency objective.",
            "s",
            query(p99, "p99"),
            query(f"min(job:slo_latency_threshold:seconds{{{RELEASES}}})", "objective"),
        ),
    ]


def _compared(
    title: str, description: str, first: str, second: str, names: tuple[str, str] = ("live", "reference")
) -> Panel:
    """Return a bar chart with two values per bin."""
    panel = barchart.Panel().title(title).description(description).unit("percentunit").x_field("bin").span(8).height(8)
    return joined(panel, "bin", {"Value #A": names[0], "Value #B": names[1]}, first, second)


if __name__ == "__main__":
    description = "Drift, quality and service level objectives of the models that charts/model-service serves."
    rows = {
        "Overview": glance(),
        "Predictions": predictions(),
        "Features": features(),
        "Quality by feedback labels": quality(),
        "Alias": alias(),
        "Challenger": challenger(),
        "Canary": canary(),
        "Service level objectives": objectives(),
    }
    feature = f"label_values(model_feature_importance_ratio{{{RECORDED}}}, variable)"
    sys.stdout.write(build("Model", "model-drift", description, "model_info", rows, VERSIONS | {"feature": feature}))
