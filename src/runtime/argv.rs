//! Which command line a container runs: the pod's `command` and `args` over the image's
//! entrypoint and cmd.

use crate::image::ImageConfig;

/// The command line of a container, by the rules of the Kubernetes API: `command` replaces the
/// entrypoint and drops the image's cmd, `args` replaces cmd. Empty means that there is nothing to
/// run (`no command specified`).
pub fn resolve_argv(command: &[String], args: &[String], image: &ImageConfig) -> Vec<String> {
    let (entrypoint, cmd): (&[String], &[String]) = match (command.is_empty(), args.is_empty()) {
        (true, true) => (&image.entrypoint, &image.cmd),
        (true, false) => (&image.entrypoint, args),
        (false, _) => (command, args),
    };
    [entrypoint, cmd].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_and_args_over_the_image() {
        let s = |v: &[&str]| v.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let image =
            ImageConfig { entrypoint: s(&["ep", "-e"]), cmd: s(&["cmd"]), ..Default::default() };
        for (command, args, want) in [
            (s(&[]), s(&[]), s(&["ep", "-e", "cmd"])),
            (s(&[]), s(&["a"]), s(&["ep", "-e", "a"])),
            (s(&["c"]), s(&[]), s(&["c"])),
            (s(&["c"]), s(&["a"]), s(&["c", "a"])),
        ] {
            assert_eq!(resolve_argv(&command, &args, &image), want);
        }
    }
}
