//! The process of a container and of an exec: arguments, environment, folder.
//!
//! Must not know: which user it is, what it may do.

use std::path::PathBuf;

use oci_spec::image::Config;
use oci_spec::runtime::{Process, Spec, User};
use pintle_cri::v1::ContainerConfig;

use crate::users::Identity;
use crate::{Host, Invalid};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const TERM: &str = "TERM=xterm";

/// A process with nothing but what must be given; `Process::default` has opinions of its own.
pub(crate) fn bare(args: Vec<String>, env: Vec<String>, cwd: PathBuf, identity: &Identity) -> Process {
    let mut user = User::default();
    user.set_uid(identity.uid);
    user.set_gid(identity.gid);
    user.set_additional_gids(Some(identity.groups.clone()));
    let mut process = Process::default();
    process.set_args(Some(args));
    process.set_env(Some(env));
    process.set_cwd(cwd);
    process.set_user(user);
    process.set_terminal(Some(false));
    process.set_console_size(None);
    process.set_no_new_privileges(Some(false));
    process.set_capabilities(None);
    process.set_rlimits(None);
    process.set_apparmor_profile(None);
    process.set_selinux_label(None);
    process.set_oom_score_adj(None);
    process
}

/// The arguments: the request's command replaces the image's entrypoint and command; its args alone replace the image's
/// command.
pub(crate) fn arguments(config: &ContainerConfig, image: Option<&Config>) -> Result<Vec<String>, Invalid> {
    let list = |list: Option<&Option<Vec<String>>>| list.and_then(Clone::clone).unwrap_or_default();
    let (command, args) = match (config.command.is_empty(), config.args.is_empty()) {
        (false, _) => (config.command.clone(), config.args.clone()),
        (true, false) => (list(image.map(Config::entrypoint)), config.args.clone()),
        (true, true) => (list(image.map(Config::entrypoint)), list(image.map(Config::cmd))),
    };
    // Docker writes an entrypoint that was taken back as one empty word.
    let command = if command == [""] && config.command.is_empty() { Vec::new() } else { command };
    let all: Vec<String> = command.into_iter().chain(args).collect();
    if all.first().is_none_or(String::is_empty) {
        return Err(Invalid::new("command", "no command specified"));
    }
    match all.iter().find(|word| word.contains('\0')) {
        None => Ok(all),
        Some(word) => Err(Invalid::new("command", format!("{word:?} contains a NUL byte"))),
    }
}

/// The environment, later ones over earlier ones: a PATH, TERM with a terminal, HOSTNAME, the image's, the request's.
pub(crate) fn environment(
    config: &ContainerConfig,
    image: Option<&Config>,
    hostname: &str,
) -> Result<Vec<String>, Invalid> {
    let mut env = vec![DEFAULT_PATH.to_owned()];
    if config.tty {
        put(&mut env, TERM.to_owned());
    }
    put(&mut env, format!("HOSTNAME={hostname}"));
    for entry in image.and_then(|image| image.env().as_deref()).unwrap_or_default() {
        put(&mut env, entry.clone());
    }
    for (index, variable) in config.envs.iter().enumerate() {
        let entry = format!("{}={}", variable.key, String::from_utf8_lossy(&variable.value));
        if variable.key.is_empty() || variable.key.contains('=') || entry.contains('\0') {
            return Err(Invalid::new(format!("envs[{index}]"), format!("{:?} is no variable", variable.key)));
        }
        put(&mut env, entry);
    }
    Ok(env)
}

/// Sets a variable in its place; an entry without `=` (images may have one) takes it away.
pub(crate) fn put(env: &mut Vec<String>, entry: String) {
    let name = entry.split('=').next().unwrap_or_default();
    let place = env.iter().position(|known| known.split('=').next() == Some(name));
    match (place, entry.contains('=')) {
        (Some(place), true) => env[place] = entry,
        (Some(place), false) => {
            env.remove(place);
        }
        (None, true) => env.push(entry),
        (None, false) => {}
    }
}

/// The request's folder, else the image's, else the root.
pub(crate) fn folder(config: &ContainerConfig, image: Option<&Config>) -> PathBuf {
    let given = Some(config.working_dir.as_str()).filter(|dir| !dir.is_empty());
    let dir = given.or_else(|| image.and_then(|image| image.working_dir().as_deref())).filter(|dir| !dir.is_empty());
    match dir {
        // The kernel wants it absolute; an image may say it as Docker's build files do.
        Some(dir) if !dir.starts_with('/') => PathBuf::from("/").join(dir),
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from("/"),
    }
}

/// The process of `Exec` and `ExecSync` in a container of this specification: the same user, capabilities and
/// confinement, another command.
///
/// # Errors
/// No command.
pub fn exec_process(spec: &Spec, command: &[String], terminal: bool) -> Result<Process, Invalid> {
    if command.first().is_none_or(String::is_empty) {
        return Err(Invalid::new("cmd", "no command specified"));
    }
    if let Some(word) = command.iter().find(|word| word.contains('\0')) {
        return Err(Invalid::new("cmd", format!("{word:?} contains a NUL byte")));
    }
    let missing = || Invalid::new("container_id", "the container has no process");
    let mut process = spec.process().clone().ok_or_else(missing)?;
    process.set_args(Some(command.to_vec()));
    process.set_terminal(Some(terminal));
    process.set_console_size(None);
    if terminal {
        let mut env = process.env().clone().unwrap_or_default();
        put(&mut env, TERM.to_owned());
        process.set_env(Some(env));
    }
    Ok(process)
}

/// Limits of the host's settings.
pub(crate) fn limit(process: &mut Process, host: &Host) {
    process.set_rlimits(Some(host.rlimits.clone()).filter(|limits| !limits.is_empty()));
}

#[cfg(test)]
mod tests {
    use pintle_cri::v1::KeyValue;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn image(entrypoint: &str, cmd: &str) -> Config {
        let mut image = Config::default();
        image.set_entrypoint(Some(words(entrypoint)));
        image.set_cmd(Some(words(cmd)));
        image
    }

    fn args(command: &str, args: &str, image: &Config) -> String {
        let config = ContainerConfig { command: words(command), args: words(args), ..Default::default() };
        arguments(&config, Some(image)).map_or_else(|error| error.to_string(), |words| words.join(" "))
    }

    #[test]
    fn the_requests_command_replaces_both_of_the_images() {
        let image = image("entry point", "cmd one");
        assert_eq!(args("", "", &image), "entry point cmd one");
        assert_eq!(args("mine", "", &image), "mine");
        assert_eq!(args("mine", "x", &image), "mine x");
        assert_eq!(args("", "x y", &image), "entry point x y");
        assert_eq!(args("", "", &Config::default()), "command: no command specified");
    }

    #[test]
    fn an_entrypoint_taken_back_is_none() {
        let mut image = image("", "cmd");
        image.set_entrypoint(Some(vec![String::new()]));
        assert_eq!(args("", "", &image), "cmd");
    }

    #[test]
    fn later_variables_replace_earlier_ones_in_their_place() {
        let mut image = Config::default();
        image.set_env(Some(words("PATH=/bin A=1 B=2 HOSTNAME A=3")));
        let one = |key: &str, value: &str| KeyValue { key: key.into(), value: value.as_bytes().to_vec() };
        let mut config = ContainerConfig { envs: vec![one("B", "x=y"), one("C", "")], tty: true, ..Default::default() };
        let env = environment(&config, Some(&image), "pod").unwrap();
        assert_eq!(env, ["PATH=/bin", "TERM=xterm", "A=3", "B=x=y", "C="]);
        config.envs.push(one("D", "a\0b"));
        assert_eq!(environment(&config, None, "pod").unwrap_err().to_string(), "envs[2]: \"D\" is no variable");
    }

    #[test]
    fn an_exec_is_the_container_with_another_command() {
        let mut process = bare(words("sleep"), words("PATH=/bin"), "/".into(), &Identity::default());
        process.set_no_new_privileges(Some(true));
        let mut spec = Spec::default();
        spec.set_process(Some(process));
        let got = exec_process(&spec, &words("sh -c true"), true).unwrap();
        assert_eq!(got.args().as_deref().unwrap(), words("sh -c true"));
        assert_eq!(got.env().as_deref().unwrap(), ["PATH=/bin", "TERM=xterm"]);
        assert_eq!((got.terminal(), got.no_new_privileges()), (Some(true), Some(true)));
        assert_eq!(exec_process(&spec, &[], false).unwrap_err().to_string(), "cmd: no command specified");
    }
}
