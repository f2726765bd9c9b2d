//! The Dockerfile and the compose files: the rules that linters of them have, and our own.
//!
//! Where Docker has its compose plugin, it reads the files, too.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tapedeck::status::Status;

/// Every instruction there is, but for the one that is no longer meant to be used.
const INSTRUCTIONS: [&str; 17] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// What a service may have, as far as any of ours does.
const SERVICE: [&str; 17] = [
    "build",
    "cap_drop",
    "command",
    "env_file",
    "environment",
    "healthcheck",
    "image",
    "logging",
    "mem_limit",
    "ports",
    "read_only",
    "restart",
    "security_opt",
    "stop_grace_period",
    "tmpfs",
    "ulimits",
    "volumes",
];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

/// The instructions of a Dockerfile: word, and what is behind it with its lines joined.
fn instructions(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    let joined = lines.replace("\\\n", " ");
    let all = joined.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
    all.map(|(word, rest)| (word.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))).collect()
}

/// A form that no shell is needed for.
fn words(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("not the exec form: {text}: {error}"))
}

/// An image by a version, so that the same file makes the same thing.
fn is_pinned(image: &str) -> bool {
    image.rsplit_once(':').is_some_and(|(_, tag)| !tag.is_empty() && tag != "latest" && !tag.contains('/'))
}

/// What is wrong with a `RUN`.
fn faults_of_run(text: &str) -> Vec<&'static str> {
    let steps: Vec<&str> = text.split("&&").map(str::trim).collect();
    let mut faults = Vec::new();
    if let Some(install) = steps.iter().find(|step| step.starts_with("apt-get install")) {
        let packages: Vec<&str> = install.split(' ').skip(2).filter(|word| !word.starts_with('-')).collect();
        for (wrong, fault) in [
            (!install.contains(" -y"), "asks a person"),
            (!install.contains("--no-install-recommends"), "brings more than is needed"),
            (packages.iter().any(|package| !package.contains('=')), "a package without a version"),
            (!steps[0].starts_with("apt-get update"), "lists of another layer"),
            (!steps.iter().any(|step| step.starts_with("rm -rf /var/lib/apt/lists")), "lists stay in the layer"),
        ] {
            faults.extend(wrong.then_some(fault));
        }
    }
    for (wrong, fault) in [
        (text.contains("sudo "), "sudo"),
        (steps.iter().any(|step| step.starts_with("cd ")), "cd in place of WORKDIR"),
        (text.contains('|') && !text.contains("pipefail") && !text.contains("||"), "a pipe whose failure is lost"),
        (text.contains("apt-get upgrade") || text.contains("apt "), "apt, or an upgrade"),
    ] {
        faults.extend(wrong.then_some(fault));
    }
    faults
}

#[test]
fn the_image_is_made_as_a_linter_of_dockerfiles_wants_it() {
    let text = std::fs::read_to_string(deploy().join("Dockerfile")).unwrap();
    let all = instructions(&text);
    let of = |word: &str| all.iter().filter(|(one, _)| one == word).map(|(_, rest)| rest.clone()).collect::<Vec<_>>();
    for (word, rest) in &all {
        assert!(INSTRUCTIONS.contains(&word.as_str()), "{word} {rest}");
    }
    let mut stages = Vec::new();
    for from in of("FROM") {
        let (image, stage) = from.split_once(" AS ").unwrap_or((from.as_str(), ""));
        assert!(is_pinned(image), "{from}");
        stages.push(stage.to_owned());
    }
    assert_eq!(stages, ["build", ""], "what builds is not what runs");
    assert!(of("ADD").is_empty(), "COPY says what it does");
    for run in of("RUN") {
        assert_eq!(faults_of_run(&run), Vec::<&str>::new(), "{run}");
    }
    for copy in of("COPY") {
        if let Some(stage) = copy.split(' ').find_map(|word| word.strip_prefix("--from=")) {
            assert!(stages.iter().any(|known| known == stage), "{copy}");
        }
    }
    for dir in of("WORKDIR") {
        assert!(dir.starts_with('/'), "{dir}");
    }
    assert_eq!(of("USER"), ["tapedeck"], "never root");
    let user = all.iter().position(|(word, _)| word == "USER").unwrap();
    assert!(all[user..].iter().all(|(word, _)| !["RUN", "COPY"].contains(&word.as_str())), "nothing as another user");
    assert_eq!(of("VOLUME"), ["/data"], "what is recorded outlives the container");
    // What it starts is ours.
    let (entry, command) = (words(&of("ENTRYPOINT")[0]), words(&of("CMD")[0]));
    assert_eq!(entry, ["tapedeck"]);
    tapedeck::cli::parses(&command).unwrap();
    // The compiler that the workspace asks for.
    let manifest: toml::Table = std::fs::read_to_string(deploy().join("../Cargo.toml")).unwrap().parse().unwrap();
    let wanted = manifest["workspace"]["package"]["rust-version"].as_str().unwrap().to_owned();
    assert!(of("FROM")[0].contains(&format!("rust:{wanted}")), "{wanted}: {}", of("FROM")[0]);
    // Nothing private gets into the image by `COPY .`.
    let ignored = std::fs::read_to_string(deploy().join("../.dockerignore")).unwrap();
    for name in [".env", ".git", "target"] {
        assert!(ignored.lines().any(|line| line == name), "{name}");
    }
}

#[test]
fn the_image_is_unhealthy_when_the_deck_does_not_answer_or_its_recorder_hangs() {
    let text = std::fs::read_to_string(deploy().join("Dockerfile")).unwrap();
    let (_, check) = instructions(&text).into_iter().find(|(word, _)| word == "HEALTHCHECK").unwrap();
    let (_, command) = check.split_once(" CMD ").unwrap();
    let (asks, judges) = command.split_once(" | ").unwrap();
    let asks: Vec<String> = asks.strip_prefix("tapedeck ").unwrap().split(' ').map(str::to_owned).collect();
    tapedeck::cli::parses(&asks).unwrap();
    let is_healthy = |answer: &str| {
        let mut shell = Command::new("sh").args(["-c", judges]).stdin(Stdio::piped()).spawn().unwrap();
        // Gone early is an answer, too.
        let _ = shell.stdin.take().unwrap().write_all(answer.as_bytes());
        shell.wait().unwrap().success()
    };
    for (running, recorder_silent_ms, healthy) in
        [(true, 0, true), (true, 29_999, true), (true, 30_000, false), (true, 3_600_000, false), (false, 0, false)]
    {
        let status = Status { running, recorder_silent_ms, ..Status::default() };
        assert_eq!(status.hung().is_none() && running, healthy, "as /livez says it: {recorder_silent_ms} ms");
        let answer = format!("{}\n", serde_json::to_string(&status).unwrap());
        assert_eq!(is_healthy(&answer), healthy, "{answer}");
    }
    assert!(!is_healthy(""), "no answer");
}

#[test]
fn what_the_linter_is_for_is_found_by_these_rules() {
    for (run, fault) in [
        (
            "apt-get update && apt-get install -y --no-install-recommends a && rm -rf /var/lib/apt/lists/*",
            "a package without a version",
        ),
        ("apt-get update && apt-get install -y --no-install-recommends a=1", "lists stay in the layer"),
        ("apt-get install -y --no-install-recommends a=1 && rm -rf /var/lib/apt/lists/*", "lists of another layer"),
        ("apt-get update && apt-get install -y a=1 && rm -rf /var/lib/apt/lists/*", "brings more than is needed"),
        ("curl x | sh", "a pipe whose failure is lost"),
        ("cd /x && make", "cd in place of WORKDIR"),
    ] {
        assert_eq!(faults_of_run(run), [fault], "{run}");
    }
    assert!(!is_pinned("debian") && !is_pinned("debian:latest") && !is_pinned("host:5000/debian"));
    assert!(is_pinned("debian:bookworm-slim"));
}

fn compose_files() -> Vec<(PathBuf, Value)> {
    let folder = std::fs::read_dir(deploy().join("compose")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = folder.filter(|path| path.extension().is_some_and(|ending| ending == "yml")).collect();
    all.sort();
    assert!(all.len() >= 4, "{all:?}");
    let read = |path: PathBuf| {
        let value = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap());
        let value = value.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, value)
    };
    all.into_iter().map(read).collect()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn compose_files_have_only_known_keys_private_ports_named_volumes_and_commands_that_exist() {
    for (path, file) in compose_files() {
        let place = path.display();
        for key in file.as_object().unwrap().keys() {
            assert!(["services", "volumes"].contains(&key.as_str()), "{place}: {key}");
        }
        let volumes: Vec<&String> = file["volumes"].as_object().into_iter().flatten().map(|(name, _)| name).collect();
        for (name, service) in file["services"].as_object().unwrap() {
            let place = format!("{place}: {name}");
            for key in service.as_object().unwrap().keys() {
                assert!(SERVICE.contains(&key.as_str()), "{place}: {key}");
            }
            for port in texts(&service["ports"]) {
                assert!(port.starts_with("127.0.0.1:"), "{place}: {port} is open to everybody");
            }
            for volume in texts(&service["volumes"]) {
                let from = volume.split(':').next().unwrap();
                let ours = from.starts_with("./") && volume.ends_with(":ro");
                assert!(ours || volumes.iter().any(|known| *known == from), "{place}: {volume}");
            }
            let built = &service["build"];
            if built.is_null() {
                assert!(is_pinned(service["image"].as_str().unwrap()), "{place}");
                assert!(service["healthcheck"]["test"].is_array(), "{place} says when it is ready");
                continue;
            }
            let context = path.parent().unwrap().join(built["context"].as_str().unwrap());
            assert!(context.join(built["dockerfile"].as_str().unwrap()).is_file(), "{place}");
            let command: Vec<String> = texts(&service["command"]).into_iter().map(str::to_owned).collect();
            tapedeck::cli::parses(&command).unwrap_or_else(|error| panic!("{place}: {error}"));
            // The image's check is of a deck.
            let disabled = service["healthcheck"]["disable"] == true;
            assert_eq!(disabled, command.first().is_none_or(|verb| verb != "run"), "{place}");
            // As little as can be, and what is recorded outlives it; secrets come from outside.
            assert_eq!(service["read_only"], true, "{place}");
            assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{place}");
            assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{place}");
            assert_eq!(service["restart"], "unless-stopped", "{place}");
            assert!(service["env_file"].is_array() && service["environment"].is_null(), "{place}");
            assert!(texts(&service["volumes"]).iter().any(|volume| volume.ends_with(":/data")), "{place}");
        }
    }
}

/// The variables that a compose file asks for: `${NAME:?words}`.
fn asked_for(text: &str) -> Vec<&str> {
    let mut names: Vec<&str> = text.split("${").skip(1).filter_map(|rest| Some(rest.split_once(":?")?.0)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn the_stack_keeps_its_data_comes_back_and_has_its_passwords_from_outside() {
    let files = compose_files();
    let of = |name: &str| {
        let (_, file) = files.iter().find(|(path, _)| path.ends_with(name)).unwrap_or_else(|| panic!("{name}"));
        file["services"].as_object().unwrap()
    };
    let (stack, trying) = (of("stack.yml"), of("servers.yml"));
    for name in ["influxdb", "postgres", "questdb", "grafana"] {
        assert!(stack.contains_key(name), "{name}");
    }
    for (name, service) in stack {
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        assert!(service["healthcheck"]["test"].is_array(), "{name}: `tapedeck up` waits for it");
        assert!(!texts(&service["volumes"]).is_empty(), "{name}: its data goes with the container");
        if let Some(tried) = trying.get(name) {
            assert_eq!(service["image"], tried["image"], "{name}: what is tested is what is shipped");
        }
        let variables = service["environment"].as_object().unwrap();
        let passwords: Vec<_> = variables.iter().filter(|(key, _)| key.ends_with("PASSWORD")).collect();
        assert!(!passwords.is_empty(), "{name} is open to everybody on this machine");
        for (key, value) in passwords {
            assert!(value.as_str().is_some_and(|text| text.starts_with("${") && text.contains(":?")), "{name}: {key}");
        }
    }
    let text = std::fs::read_to_string(deploy().join("compose/stack.yml")).unwrap();
    let head: String = text.lines().take_while(|line| line.starts_with('#')).collect();
    for name in asked_for(&text) {
        assert!(head.contains(name), "its head says that {name} goes into .env");
    }
}

#[test]
fn every_compose_file_of_ours_that_a_document_names_is_there() {
    let docs = std::fs::read_dir(deploy().join("../docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut seen = 0;
    for path in docs.filter(|path| path.extension().is_some_and(|ending| ending == "md")) {
        let text = std::fs::read_to_string(&path).unwrap();
        for rest in text.split("deploy/compose/").skip(1) {
            let name: String =
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).collect();
            if name.ends_with(".yml") {
                seen += 1;
                assert!(deploy().join("compose").join(&name).is_file(), "{}: {name}", path.display());
            }
        }
    }
    assert!(seen >= 3, "{seen} names");
}

#[test]
fn compose_itself_reads_the_files() {
    let ask = |args: &[&str]| Command::new("docker").arg("compose").args(args).stdin(Stdio::null()).output();
    if !ask(&["version"]).is_ok_and(|out| out.status.success()) {
        crate::skipped::name_it("docker has no compose plugin here: apt-get install docker-compose-v2");
        return;
    }
    for (path, _) in compose_files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut command = Command::new("docker");
        command.args(["compose", "-f", path.to_str().unwrap(), "config", "--quiet"]).stdin(Stdio::null());
        let out = command.envs(asked_for(&text).into_iter().map(|name| (name, "x"))).output().unwrap();
        assert!(out.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&out.stderr));
    }
}
