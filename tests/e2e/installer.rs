//! The installer, with a file system of its own over /etc and /run and a `systemctl` that only notes
//! what it is asked for.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::{Cluster, Finished, Network, run};

const INSTALLER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/installer");

/// What every script begins with. It runs in a mount namespace of its own.
const MACHINE: &str = r#"
set -eu
cd "$1"; installer=$2
mkdir -p top bin tools
mount -t tmpfs none top
mkdir top/upper top/work
mount -t overlay -o lowerdir=/etc,upperdir=top/upper,workdir=top/work none /etc
mount -t tmpfs none /run
mkdir -p /run/systemd/system
cat > tools/systemctl <<'EOF'
#!/bin/sh
echo "$*" >> "$(dirname "$0")/asked"
case "$*" in
  *is-active*) [ -e "$(dirname "$0")/active" ] ;;
  restart*) touch "$(dirname "$0")/active" ;;
  stop*) rm "$(dirname "$0")/active" ;;
esac
EOF
chmod +x tools/systemctl
PATH=$PWD/tools:$PATH
export INSTALL_KNARR_BIN_DIR=$PWD/bin KNARR_RUN_DIR=$PWD/run KNARR_CGROUP_ROOT=/knarr-installer
asked() { echo "-- asked"; cat tools/asked; : > tools/asked; }
"#;

struct Machine {
    network: Network,
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("knarr-installer-").tempdir().unwrap();
        Self { network: Network::new(), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sh(&self, script: &str) -> Finished {
        let net = format!("--net=/run/netns/{}", self.network.node);
        let script = format!("{MACHINE}{script}");
        let folder = self.folder.path().to_str().unwrap();
        let wrapped = ["unshare", "-m", "sh", "-c", &script, "sh", folder, INSTALLER];
        run("nsenter", &[&[net.as_str()][..], &wrapped].concat())
    }
}

fn program() -> String {
    Cluster::program().display().to_string()
}

#[test]
fn a_service_is_installed_and_started_once_and_removed_without_a_trace() {
    let machine = Machine::new();
    let script = format!(
        r#"
export INSTALL_KNARR_BINARY={}
"$installer/install.sh" --data-dir "$PWD/my data" --disable=ingress '--node-label=a="100%"'
asked
cat /etc/systemd/system/knarr.service /etc/knarr/knarr.env
"$installer/install.sh" --data-dir "$PWD/my data" --disable=ingress '--node-label=a="100%"'
asked
"$installer/install.sh" --data-dir "$PWD/my data" --disable=dns
asked
mkdir "my data"
bin/knarr-uninstall --all
asked
ls -A bin /etc/knarr /etc/systemd/system/knarr.service "my data" || true
"#,
        program()
    );
    let said = machine.sh(&script).stdout();
    let parts: Vec<&str> = said.split("-- asked\n").collect();
    let [first, once, again, changed, removed] = parts[..] else { panic!("{said}") };
    assert!(first.contains("export KUBECONFIG=/etc/knarr/kubeconfig.yaml"), "{first}");
    let started = "enable --quiet knarr.service\ndaemon-reload\nrestart knarr.service\n";
    assert!(once.starts_with(started), "{once}");
    let data = machine.path("my data").display().to_string();
    for line in [
        "Type=notify",
        "KillMode=process",
        "Delegate=yes",
        &format!(
            "ExecStart={} server \"--disable=ingress\" \"--node-label=a=\\\"100%%\\\"\"",
            machine.path("bin/knarr").display()
        ),
        &format!("KNARR_DATA_DIR=\"{data}\""),
    ] {
        assert!(once.lines().any(|l| l == line), "{line} is not in {once}");
    }
    assert!(once.contains("nothing has changed, and it runs"), "{once}");
    assert!(!again.starts_with("restart") && !again.contains("\nrestart"), "{again}");
    assert!(changed.contains("restart knarr.service"), "{changed}");
    assert!(
        removed.starts_with("disable --quiet knarr.service\nstop knarr.service\n"),
        "{removed}"
    );
    assert!(removed.trim_end().ends_with("bin:"), "only the empty folder is left: {removed}");
    assert!(!Path::new(&data).exists());
}

#[test]
fn a_download_is_installed_only_with_the_checksum_that_the_release_names() {
    let machine = Machine::new();
    let script = format!(
        r#"
case $(uname -m) in aarch64) arch=arm64 ;; *) arch=amd64 ;; esac
mkdir -p releases/v1 releases/v2
export INSTALL_KNARR_BASE_URL=file://$PWD/releases KNARR_DATA_DIR=$PWD/data
for version in v1 v2; do
  cp {} releases/$version/knarr-$arch
  cp "$installer/uninstall" releases/$version/
  (cd releases/$version && sha256sum knarr-$arch uninstall > sha256sum-$arch.txt)
done
echo >> releases/v2/knarr-$arch
if INSTALL_KNARR_VERSION=v2 "$installer/install.sh"; then exit 1; fi
ls -A bin
INSTALL_KNARR_VERSION=v1 "$installer/install.sh"
ls -A bin
"#,
        program()
    );
    let finished = machine.sh(&script);
    let (said, why) = (finished.out(), finished.err());
    finished.stdout();
    assert!(why.contains("has checksum") && why.contains("as it should"), "{why}");
    let installed = said.find("knarr\nknarr-uninstall\n").unwrap_or_else(|| panic!("{said}"));
    assert!(installed > said.find("starting knarr.service").unwrap(), "{said}");
}

#[test]
fn a_machine_that_cannot_run_a_server_is_told_so_before_it_is_started() {
    let machine = Machine::new();
    let script = format!(
        r#"
export INSTALL_KNARR_BINARY={} KNARR_DATA_DIR=$PWD/data
"$installer/install.sh" --node-name=not_a_name || {{ asked; exit 1; }}
"#,
        program()
    );
    let finished = machine.sh(&script);
    assert!(!finished.out().contains("restart"), "{finished}");
    let why = finished.refused();
    assert!(why.contains(r#"MISSING  node name          "not_a_name" cannot be"#), "{why}");
}
