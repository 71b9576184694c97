#!/bin/sh
# Installs Knarr as a service of systemd or OpenRC, starts it, and may be run again at any time: it
# changes what is different, and restarts the server only then.
#
#   installer/install.sh [OPTIONS OF `knarr server`]
#   curl -fsSL URL/install.sh | INSTALL_KNARR_BASE_URL=URL sh -s - [OPTIONS OF `knarr server`]
#
# Environment (where k3s' installer has the option as INSTALL_K3S_*, it means the same):
#
#   KNARR_*                       settings of the server; kept in /etc/knarr/knarr.env
#   INSTALL_KNARR_BINARY          a binary on this machine to install
#   INSTALL_KNARR_BASE_URL        where releases are: BASE/VERSION/knarr-ARCH, its checksum in
#                                 BASE/VERSION/sha256sum-ARCH.txt, and BASE/VERSION/uninstall
#   INSTALL_KNARR_VERSION         which release [latest]
#   INSTALL_KNARR_SKIP_DOWNLOAD   true: use the binary that is installed
#   INSTALL_KNARR_BIN_DIR         where the binary goes [/usr/local/bin]
#   INSTALL_KNARR_BIN_DIR_READ_ONLY  true: as SKIP_DOWNLOAD, and nothing is written there
#   INSTALL_KNARR_EXEC            options of the server, before those of the command line
#   INSTALL_KNARR_NAME            the service's name is knarr-NAME [knarr]
#   INSTALL_KNARR_SYSTEMD_DIR     where the unit goes [/etc/systemd/system]
#   INSTALL_KNARR_SKIP_ENABLE     true: the service is neither enabled nor started
#   INSTALL_KNARR_SKIP_START      true: it is enabled but not started
#   INSTALL_KNARR_FORCE_RESTART   true: it is restarted even if nothing has changed
#   INSTALL_KNARR_SKIP_CHECK      true: it is started even if `knarr check` says that it cannot run
set -eu

say() { printf 'knarr: %s\n' "$*"; }
fail() { printf 'knarr: %s\n' "$*" >&2; exit 1; }

CONFIG_DIR=/etc/knarr
BIN_DIR=${INSTALL_KNARR_BIN_DIR:-/usr/local/bin}
SYSTEMD_DIR=${INSTALL_KNARR_SYSTEMD_DIR:-/etc/systemd/system}
VERSION=${INSTALL_KNARR_VERSION:-latest}
NAME=knarr${INSTALL_KNARR_NAME:+-$INSTALL_KNARR_NAME}
BINARY=$BIN_DIR/knarr
UNINSTALL=$BIN_DIR/$NAME-uninstall
ENV_FILE=$CONFIG_DIR/$NAME.env
CHANGED=false

# --- what to run -----------------------------------------------------------------------------

# An option of a command line of systemd: in quotes, without meaning of its own.
systemd_quoted() {
  printf '"%s"' "$(printf %s "$1" | sed -e 's/[\\"]/\\&/g' -e 's/%/%%/g' -e 's/\$/$$/g')"
}

shell_quoted() {
  printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"
}

# A value as systemd and shells read it alike.
env_quoted() {
  printf '"%s"' "$(printf %s "$1" | sed 's/[\\"$`]/\\&/g')"
}

# Options for folders go into the environment file, where `knarr-uninstall` finds them, too.
read_options() {
  SYSTEMD_OPTIONS=''
  SHELL_OPTIONS=''
  FOLDERS=''
  while [ $# -gt 0 ]; do
    case $1 in
      --data-dir | --run-dir | --pod-logs-dir | --cgroup-root)
        [ $# -gt 1 ] || fail "$1 needs a value"
        option=$1=$2
        shift
        ;;
      *) option=$1 ;;
    esac
    shift
    value=${option#*=}
    case $option in
      --data-dir=*) FOLDERS="${FOLDERS}KNARR_DATA_DIR=$(env_quoted "$value")
" ;;
      --run-dir=*) FOLDERS="${FOLDERS}KNARR_RUN_DIR=$(env_quoted "$value")
" ;;
      --pod-logs-dir=*) FOLDERS="${FOLDERS}KNARR_POD_LOGS_DIR=$(env_quoted "$value")
" ;;
      --cgroup-root=*) FOLDERS="${FOLDERS}KNARR_CGROUP_ROOT=$(env_quoted "$value")
" ;;
      *)
        SYSTEMD_OPTIONS="$SYSTEMD_OPTIONS $(systemd_quoted "$option")"
        SHELL_OPTIONS="$SHELL_OPTIONS $(shell_quoted "$option")"
        ;;
    esac
  done
}

# --- files -----------------------------------------------------------------------------------

# Puts stdin into a file in one step, with a mode, if it is not the same already.
put() {
  new=$(mktemp "$1.XXXXXX") || fail "cannot write to $(dirname "$1")"
  cat >"$new"
  chmod "$2" "$new"
  if cmp -s "$new" "$1"; then
    rm -f "$new"
    chmod "$2" "$1"
  else
    mv -f "$new" "$1"
    CHANGED=true
  fi
}

architecture() {
  case $(uname -m) in
    x86_64 | amd64) echo amd64 ;;
    aarch64 | arm64) echo arm64 ;;
    *) fail "no release for $(uname -m)" ;;
  esac
}

fetch() {
  if command -v curl >/dev/null; then
    curl -fsSL -o "$2" "$1"
  elif command -v wget >/dev/null; then
    wget -qO "$2" "$1"
  else
    fail 'curl or wget is needed to download'
  fi || fail "cannot download $1"
}

# Downloads a file of the release and compares it with the list of checksums.
fetch_verified() {
  fetch "$INSTALL_KNARR_BASE_URL/$VERSION/$1" "$WORK/$1"
  expected=$(awk -v name="$1" '{ sub(/^\*/, "", $2); if ($2 == name) print $1 }' "$WORK/sums")
  [ -n "$expected" ] || fail "the list of checksums does not have $1"
  actual=$(sha256sum "$WORK/$1" | cut -d' ' -f1)
  [ "$expected" = "$actual" ] || fail "$1 has checksum $actual, not $expected as it should"
}

install_binary() {
  here=$(dirname "$0")
  if [ -n "${INSTALL_KNARR_BINARY:-}" ]; then
    [ -f "$INSTALL_KNARR_BINARY" ] || fail "there is no $INSTALL_KNARR_BINARY"
    source=$INSTALL_KNARR_BINARY
    uninstall=$here/uninstall
  elif [ "${INSTALL_KNARR_SKIP_DOWNLOAD:-}" = true ] ||
    [ "${INSTALL_KNARR_BIN_DIR_READ_ONLY:-}" = true ]; then
    [ -x "$BINARY" ] || fail "there is no $BINARY, and INSTALL_KNARR_SKIP_DOWNLOAD is set"
    source=''
    uninstall=$here/uninstall
  else
    [ -n "${INSTALL_KNARR_BASE_URL:-}" ] ||
      fail 'INSTALL_KNARR_BINARY or INSTALL_KNARR_BASE_URL has to say where the binary is'
    arch=$(architecture)
    say "downloading $INSTALL_KNARR_BASE_URL/$VERSION/knarr-$arch"
    fetch "$INSTALL_KNARR_BASE_URL/$VERSION/sha256sum-$arch.txt" "$WORK/sums"
    fetch_verified "knarr-$arch"
    fetch_verified uninstall
    source=$WORK/knarr-$arch
    uninstall=$WORK/uninstall
  fi
  [ "${INSTALL_KNARR_BIN_DIR_READ_ONLY:-}" = true ] && return
  mkdir -p "$BIN_DIR"
  [ -z "$source" ] || put "$BINARY" 755 <"$source"
  if [ -f "$uninstall" ]; then
    # It is told what was installed here; that it has changed is no reason for a restart.
    changed=$CHANGED
    sed -e "s|^NAME=.*|NAME=$NAME|" -e "s|^BIN_DIR=.*|BIN_DIR=$BIN_DIR|" \
      -e "s|^SYSTEMD_DIR=.*|SYSTEMD_DIR=$SYSTEMD_DIR|" "$uninstall" | put "$UNINSTALL" 755
    CHANGED=$changed
  fi
}

# The settings of this run; without any, those of the last run stay.
write_environment() {
  mkdir -p "$CONFIG_DIR"
  settings=$(env | grep '^KNARR_[A-Z_]*=' | sort | while IFS='=' read -r key value; do
    printf '%s=%s\n' "$key" "$(env_quoted "$value")"
  done)
  [ -z "$settings$FOLDERS" ] && [ -f "$ENV_FILE" ] && return
  printf '%s\n%s' "$settings" "$FOLDERS" | sed '/^$/d' | put "$ENV_FILE" 600
}

# --- services --------------------------------------------------------------------------------

write_unit() {
  mkdir -p "$SYSTEMD_DIR"
  put "$SYSTEMD_DIR/$NAME.service" 644 <<EOF
[Unit]
Description=Knarr: Kubernetes in one binary
Wants=network-online.target
After=network-online.target firewalld.service nftables.service ufw.service

[Service]
Type=notify
EnvironmentFile=-/etc/default/$NAME
EnvironmentFile=-/etc/sysconfig/$NAME
EnvironmentFile=-$ENV_FILE
ExecStartPre=-/sbin/modprobe overlay
ExecStartPre=-/sbin/modprobe nf_tables
ExecStart=$BINARY server$SYSTEMD_OPTIONS
# Pods and the edge outlive the server: the next one adopts them.
KillMode=process
Delegate=yes
Restart=always
RestartSec=5s
TimeoutStartSec=0
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
EOF
}

write_openrc() {
  put "/etc/init.d/$NAME" 755 <<EOF
#!/sbin/openrc-run
description="Knarr: Kubernetes in one binary"
supervisor=supervise-daemon
command=$BINARY
command_args="server$(printf %s "$SHELL_OPTIONS" | sed 's/[\\"$`]/\\&/g')"
pidfile=/run/$NAME.pid
output_log=/var/log/$NAME.log
error_log=/var/log/$NAME.log
respawn_delay=5
respawn_max=0
rc_ulimit="-n 1048576 -u unlimited -c unlimited"
# Pods and the edge outlive the server: the next one adopts them.
rc_cgroup_cleanup=no

depend() {
  after network-online firewall
  want cgroups
}

set -o allexport
[ ! -f "$ENV_FILE" ] || . "$ENV_FILE"
set +o allexport
EOF
  changed=$CHANGED
  put "/etc/logrotate.d/$NAME" 644 <<EOF
/var/log/$NAME.log {
  missingok
  notifempty
  copytruncate
}
EOF
  CHANGED=$changed
}

service_manager() {
  if [ -x /sbin/openrc-run ]; then
    echo openrc
  elif command -v systemctl >/dev/null; then
    echo systemd
  else
    echo none
  fi
}

# Whether the machine can run a server with these options; says what is wrong.
check() {
  [ "${INSTALL_KNARR_SKIP_CHECK:-}" != true ] || return 0
  # shellcheck disable=SC1090
  if found=$(set -a && . "$ENV_FILE" && eval "\"\$BINARY\" check $SHELL_OPTIONS" 2>&1); then
    printf '%s\n' "$found" | grep '^warning' || true
    return 0
  fi
  printf '%s\n' "$found" | grep -v '^ok' >&2
  fail "installed but not started: see above ($BINARY check tells everything)"
}

start_systemd() {
  [ "${INSTALL_KNARR_SKIP_ENABLE:-}" != true ] || return 0
  systemctl enable --quiet "$NAME.service"
  if [ ! -d /run/systemd/system ]; then
    say 'systemd does not run here: the service starts with the next boot'
    return 0
  fi
  systemctl daemon-reload
  wanted || return 0
  say "starting $NAME.service"
  systemctl restart "$NAME.service" ||
    { journalctl --no-pager -n 20 -u "$NAME.service" >&2 || true; fail 'it did not start'; }
  told
}

start_openrc() {
  [ "${INSTALL_KNARR_SKIP_ENABLE:-}" != true ] || return 0
  rc-update add "$NAME" default >/dev/null
  wanted || return 0
  say "starting $NAME"
  rc-service "$NAME" restart || fail "it did not start: see /var/log/$NAME.log"
  told
}

# Whether the server has to be started now.
wanted() {
  [ "${INSTALL_KNARR_SKIP_START:-}" != true ] || return 1
  if [ $CHANGED = false ] && [ "${INSTALL_KNARR_FORCE_RESTART:-}" != true ] && runs; then
    say 'nothing has changed, and it runs'
    return 1
  fi
  check
}

runs() {
  case $MANAGER in
    systemd) systemctl --quiet is-active "$NAME.service" ;;
    openrc) rc-service --quiet "$NAME" status >/dev/null 2>&1 ;;
  esac
}

told() {
  # shellcheck disable=SC1090
  kubeconfig=$(. "$ENV_FILE" && printf %s "${KNARR_WRITE_KUBECONFIG:-}")
  cat <<EOF

The cluster runs. To use it:

    export KUBECONFIG=${kubeconfig:-$CONFIG_DIR/kubeconfig.yaml}
    kubectl get nodes

To remove it: $UNINSTALL
EOF
}

# --- all of it -------------------------------------------------------------------------------

main() {
  [ "$(id -u)" = 0 ] || fail 'run this as root'
  [ "$(uname -s)" = Linux ] || fail 'Knarr runs on Linux'
  # Options in INSTALL_KNARR_EXEC are words for the shell.
  eval "set -- ${INSTALL_KNARR_EXEC:-} \"\$@\""
  [ "${1:-}" != server ] || shift
  read_options "$@"
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
  install_binary
  write_environment
  if command -v restorecon >/dev/null; then
    restorecon -R "$BINARY" "$CONFIG_DIR" || true
  fi
  MANAGER=$(service_manager)
  case $MANAGER in
    systemd)
      write_unit
      start_systemd
      ;;
    openrc)
      write_openrc
      start_openrc
      ;;
    none)
      say "installed $BINARY; there is neither systemd nor OpenRC here to run it:"
      say "  $BINARY server$SHELL_OPTIONS"
      ;;
  esac
}

main "$@"
