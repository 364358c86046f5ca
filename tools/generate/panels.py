"""Panels, variables and annotations that all dashboards share.

Each dashboard is a program in its chart, `<chart>/dashboards/<name>.py`, that prints JSON. `make generate` writes it to
`<chart>/files/dashboards/<name>.json`, which the chart ships.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from grafana_foundation_sdk.builders import barchart, common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as models
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

type Panel = timeseries.Panel | stat.Panel | heatmap.Panel | table.Panel | barchart.Panel

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
PODS = 'namespace=~"$namespace",job=~"$job",instance=~"$instance"'
_TIMES = ("Time", *(f"Time {number}" for number in range(1, 9)))
RELEASES = 'namespace=~"$namespace",job=~"$job"'  # for recording rules, which aggregate over the pods
OF_POD = 'namespace=~"$namespace",pod=~"$job-.*"'  # for the kubelet, whose series have pods but no job of ours
# Selected versions, for metrics with a model_version label.
OF_VERSION = 'model_version=~"$version"'
MODELS, RECORDED = f"{PODS},{OF_VERSION}", f"{RELEASES},{OF_VERSION}"
VERSIONS = {"version": f"label_values(model_info{{{PODS}}}, model_version)"}
RATE = "[$__rate_interval]"


def query(expression: str, legend: str = "__auto", *, instant: bool = False) -> prometheus.Dataquery:
    """Return a PromQL query and the legend of its series."""
    made = prometheus.Dataquery().expr(expression).legend_format(legend).datasource(SOURCE)
    return made.instant() if instant else made.range()


def graph(title: str, description: str, unit: str, *queries: prometheus.Dataquery) -> timeseries.Panel:
    """Return a panel with one line per series."""
    legend = common.VizLegendOptions().show_legend(True).display_mode(models.LegendDisplayMode.LIST)
    panel = timeseries.Panel().title(title).description(description).unit(unit).datasource(SOURCE).min(0)
    panel = panel.legend(legend.placement(models.LegendPlacement.BOTTOM)).fill_opacity(8).targets(list(queries))
    return panel.tooltip(common.VizTooltipOptions().mode(models.TooltipDisplayMode.MULTI)).span(8).height(8)


def joined(
    panel: table.Panel | barchart.Panel, by: str, columns: Mapping[str, str], *expressions: str
) -> table.Panel | barchart.Panel:
    """Return a panel with the current values of several queries side by side.

    Args:
        panel: Panel to extend.
        by: Label that joins the queries.
        columns: Column titles by the name that Grafana gives the values: `Value #A`, …
        expressions: Queries without any label but `by`.
    """
    for number, expression in enumerate(expressions):
        made = query(expression, instant=True).format(PromQueryFormat.TABLE).ref_id("ABCDEFGH"[number])
        panel = panel.with_target(made)
    transform = DataTransformerConfig(id_val="joinByField", options={"byField": by, "mode": "outer"})
    names = {"excludeByName": dict.fromkeys(_TIMES, True), "renameByName": dict(columns)}
    panel = panel.with_transformation(transform)
    panel = panel.with_transformation(DataTransformerConfig(id_val="organize", options=names))
    return panel.datasource(SOURCE)


def number(
    title: str, description: str, unit: str, expression: str, *steps: float, instant: bool = False
) -> stat.Panel:
    """Return a panel with the current value, which turns orange and red at the steps.

    An instant panel has no sparkline.
    """
    colours = [Threshold(color="green", value=None)]
    colours += [Threshold(color=colour, value=at) for colour, at in zip(("orange", "red"), steps, strict=False)]
    thresholds = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(colours)
    panel = stat.Panel().title(title).description(description).unit(unit).datasource(SOURCE).thresholds(thresholds)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return panel.with_target(query(expression, instant=instant)).span(4).height(4)


def cells(title: str, description: str, unit: str, metric: str, selector: str) -> heatmap.Panel:
    """Return a heatmap of a histogram over time."""
    counted = query(f"sum by (le) (increase({metric}_bucket{{{selector}}}{RATE}))", "{{le}}")
    panel = heatmap.Panel().title(title).description(description).unit(unit).datasource(SOURCE)
    return panel.with_target(counted.format(PromQueryFormat.HEATMAP)).calculate(False).span(8).height(8)


def variable(name: str, label: str, values: str) -> dashboard.QueryVariable:
    """Return a variable for label values that allows selecting several or all."""
    made = dashboard.QueryVariable(name).label(label).query(values).datasource(SOURCE)
    return made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).multi(True).include_all(True).all_value(".+")


def deploys(metric: str, version: str) -> dashboard.AnnotationQuery:
    """Return an annotation for each new version, after an update, a rollback or a moved alias."""
    live = f"count by (namespace, job, {version}) ({metric}{{{PODS}}}"
    made = dashboard.AnnotationQuery().name("Deployments").datasource(SOURCE).enable(True).icon_color("blue")
    made = made.expr(f"{live}) unless {live} offset 2m)").step("60s").tag_keys("namespace")
    return made.title_format("{{job}}").text_format(f"version {{{{{version}}}}}")


def firing() -> dashboard.AnnotationQuery:
    """Return an annotation for firing alerts, which is hidden by default."""
    made = dashboard.AnnotationQuery().name("Alerts").datasource(SOURCE).enable(False).icon_color("red")
    made = made.expr(f'ALERTS{{{RELEASES},alertstate="firing"}}').step("60s").tag_keys("severity")
    return made.title_format("{{alertname}}").text_format("{{job}}")


def quantile(share: float, metric: str, selector: str, by: str = "le") -> str:
    """Return the PromQL for a quantile of a classic histogram."""
    return f"histogram_quantile({share}, sum by ({by}) (rate({metric}_bucket{{{selector}}}{RATE})))"


def build(
    title: str,
    uid: str,
    description: str,
    metric: str,
    rows: Mapping[str, Sequence[Panel]],
    choices: Mapping[str, str] = MappingProxyType({}),
    version: tuple[str, str] = ("model_info", "model_version"),
) -> str:
    """Return a dashboard as JSON for Grafana.

    Args:
        title: Title of the dashboard.
        uid: Unique id and tag of the dashboard, the same in every release.
        description: One sentence.
        metric: Metric of every pod whose labels provide the values of the variables.
        rows: Panels by row title.
        choices: Additional variables: name and query of the label values.
        version: Metric and label whose new values are annotated.
    """
    pods = ("namespace", "job", "instance")
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([uid])
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .readonly()
        .annotation(deploys(*version))
        .annotation(firing())
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .link(
            dashboard.DashboardLink("Runbooks")
            .type(DashboardLinkType.LINK)
            .url("https://github.com/model-service/model-service/blob/main/docs/runbooks.md")
            .target_blank(True)
        )
    )
    for index, name in enumerate(pods):
        before = ",".join(f'{earlier}=~"${earlier}"' for earlier in pods[:index])
        values = f"label_values({metric}{{{before}}}, {name})" if before else f"label_values({metric}, {name})"
        made = made.with_variable(variable(name, name.capitalize(), values))
    for name, values in choices.items():
        made = made.with_variable(variable(name, name.capitalize(), values))
    for row, panels in rows.items():
        made = made.with_row(dashboard.Row(row))
        for panel in panels:
            made = made.with_panel(panel)
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"
