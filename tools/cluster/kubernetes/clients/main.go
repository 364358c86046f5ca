// Helm, kubectl and ct in one binary, which chooses one by the name it is called by: what a machine with a cluster needs.
package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	ct "github.com/helm/chart-testing/v3/ct/cmd"
	helm "helm.sh/helm/v4/pkg/cmd"
	helmkube "helm.sh/helm/v4/pkg/kube"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
)

var programs = map[string]func() int{
	"ct":      func() int { ct.Execute(); return 0 },
	"helm":    runHelm,
	"kubectl": runKubectl,
}

func runHelm() int {
	helmkube.ManagedFieldsManager = "helm"
	command, err := helm.NewRootCmd(os.Stdout, os.Args[1:], helm.SetupLogging)
	if err != nil {
		slog.Warn("command failed", slog.Any("error", err))
		return 1
	}
	if err := command.Execute(); err != nil {
		if failed, ok := errors.AsType[helm.CommandError](err); ok {
			return failed.ExitCode
		}
		return 1
	}
	return 0
}

func runKubectl() int {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
	return 0
}

func main() {
	name := filepath.Base(os.Args[0])
	run, found := programs[name]
	if !found {
		fmt.Fprintf(os.Stderr, "%s: not a program of this binary; call it by a link named after one\n", name)
		os.Exit(2)
	}
	os.Exit(run())
}
