//! Where it is measured.

use super::figures::Machine;
use super::system;

/// This machine.
pub(crate) fn this() -> Machine {
    let processors = system("/proc/cpuinfo");
    let field = |name: &str| {
        let line = processors.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map_or("unknown", |(_, value)| value.trim())
    };
    let virtual_machine = processors.contains("hypervisor");
    let memory = system("/proc/meminfo");
    let total = memory
        .split_whitespace()
        .nth(1)
        .and_then(|it| it.parse::<f64>().ok());
    let release = system("/etc/os-release");
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    Machine {
        processor: format!(
            "{}{}",
            field("model name"),
            if virtual_machine { ", virtual" } else { "" }
        ),
        cpus: processors
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count(),
        memory_gib: total.unwrap_or_default() / 1024.0 / 1024.0,
        kernel: system("/proc/sys/kernel/osrelease"),
        system: name.unwrap_or("Linux").trim_matches('"').to_owned(),
    }
}

/// Today, in UTC.
pub(crate) fn today() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}
