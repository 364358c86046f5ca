# A kind node. Its root file system is Debian 12's, whose systemd still boots under cgroup v1.
ARG PROGRAMS_IMAGE
FROM ${PROGRAMS_IMAGE}
COPY . /
# Nothing that belongs to the machine: kernel modules, devices, clocks and consoles.
RUN systemctl mask systemd-sysctl systemd-modules-load modprobe@ systemd-udevd systemd-udevd-control.socket \
      systemd-udevd-kernel.socket systemd-logind getty@tty1 console-getty systemd-timesyncd systemd-remount-fs \
      sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount \
      e2scrub_reap systemd-update-utmp systemd-journal-flush apt-daily.timer apt-daily-upgrade.timer \
      dpkg-db-backup.timer \
 && systemctl set-default multi-user.target \
 && systemctl enable containerd kubelet node-dns \
 && for name in kubeadm kubectl kubelet containerd ctr crictl; do ln -sf /usr/local/bin/$name /usr/bin/$name; done \
 && rm -f /etc/machine-id \
 && touch /kind/product_name
ENV container=docker
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/usr/local/bin/entrypoint"]
