package main

import (
	"os"
	"path/filepath"

	"github.com/helm/chart-testing/v3/ct/cmd"
	"go.etcd.io/etcd/server/v3/etcdmain"
	helm "helm.sh/helm/v4/pkg/cmd"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	metricsserver "sigs.k8s.io/metrics-server/cmd/metrics-server/app"

	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

func main() {
	_ = filepath.Base(os.Args[0])
	_ = cmd.Execute
	_ = etcdmain.Main
	_ = helm.NewRootCmd
	_ = cli.Run
	_ = kubectl.NewDefaultKubectlCommand
	_ = apiserver.NewAPIServerCommand
	_ = controllermanager.NewControllerManagerCommand
	_ = proxy.NewProxyCommand
	_ = scheduler.NewSchedulerCommand
	_ = kubelet.NewKubeletCommand
	_ = metricsserver.NewMetricsServerCommand
	_ = coremain.Run
}
