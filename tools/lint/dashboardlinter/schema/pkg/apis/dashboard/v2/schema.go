// Package v2 has just what dashboard-linter compiles with of Grafana's newer schema, whose module is not to be had.
//
// Our dashboards are of the classic schema, so the linter never calls what needs these types.
package v2

// Query is what a panel or a variable asks of a data source.
type DashboardDataQueryKind struct {
	Group      string
	Datasource *struct{ Name *string }
	Spec       map[string]any
}

type DashboardPanelQueryKind struct {
	Spec struct {
		RefId  string
		Hidden bool
		Query  DashboardDataQueryKind
	}
}

type DashboardPanelSpec struct {
	Id                 float64
	Title, Description string
	VizConfig          struct {
		Group string
		Spec  struct{ FieldConfig, Options any }
	}
	Data struct {
		Spec struct{ Queries []DashboardPanelQueryKind }
	}
}

type DashboardElement struct {
	PanelKind *struct{ Spec DashboardPanelSpec }
}

type DashboardVariableRefresh string

const (
	DashboardVariableRefreshOnDashboardLoad    DashboardVariableRefresh = "onDashboardLoad"
	DashboardVariableRefreshOnTimeRangeChanged DashboardVariableRefresh = "onTimeRangeChanged"
)

// One struct for every kind of variable: the linter reads a part of it.
type variable struct {
	Spec struct {
		Name            string
		Label, AllValue *string
		Multi           bool
		Refresh         DashboardVariableRefresh
		PluginId        string
	}
}

type queried struct {
	Spec struct {
		Name            string
		Label, AllValue *string
		Multi           bool
		Refresh         DashboardVariableRefresh
		Query           DashboardDataQueryKind
	}
}

type written struct {
	Spec struct {
		Name            string
		Label, AllValue *string
		Multi           bool
		Query           string
	}
}

type DashboardVariableKind struct {
	QueryVariableKind                                                                  *queried
	DatasourceVariableKind, AdhocVariableKind, GroupByVariableKind, SwitchVariableKind *variable
	CustomVariableKind, IntervalVariableKind, ConstantVariableKind, TextVariableKind   *written
}

type DashboardAnnotationQueryKind struct {
	Spec struct {
		Name  string
		Query DashboardDataQueryKind
	}
}

type DashboardSpec struct {
	Title       string
	Editable    *bool
	Elements    map[string]DashboardElement
	Variables   []DashboardVariableKind
	Annotations []DashboardAnnotationQueryKind
}
