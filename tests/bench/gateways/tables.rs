//! What the page's tables and plots show.

/// A column: its title, the load, the figure; with `true` what is added to going direct, otherwise the figure itself.
pub(crate) type Column = (&'static str, &'static str, &'static str, bool);

/// A table of the page.
pub(crate) struct Table {
    pub(crate) title: &'static str,
    pub(crate) text: &'static str,
    pub(crate) columns: &'static [Column],
    /// Whether the ratio to nginx stands beside each figure.
    pub(crate) ratios: bool,
}

/// All tables, in order.
pub(crate) const TABLES: [&Table; 5] = [
    &Table {
        title: "CPU time per request",
        text: "Microseconds, in a closed loop of 32 connections; in brackets against nginx in the same rounds.",
        columns: &[
            ("1 KiB", "1k", "cpu_per_request", false),
            ("32 KiB", "32k", "cpu_per_request", false),
            ("300 KiB", "300k", "cpu_per_request", false),
            ("2 MiB", "2m", "cpu_per_request", false),
            ("300 KiB answer", "300k-answer", "cpu_per_request", false),
        ],
        ratios: true,
    },
    &Table {
        title: "CPU time per event of a stream",
        text: "Microseconds. Paced: 100 streams of 100 events a second each, which arrive one by one. Burst: 64 events arrive at once. Aborted: CPU per stream whose client leaves after 10 events.",
        columns: &[
            ("paced", "paced", "cpu_per_event", false),
            ("burst", "burst", "cpu_per_event", false),
            ("aborted stream", "aborts", "cpu_per_request", false),
        ],
        ratios: true,
    },
    &Table {
        title: "Time added",
        text: "Microseconds, beyond what the same load takes without a gateway in the same rounds. Requests: 1 KiB, 1,000 a second. First event: 200 short streams a second. Event: from the engine's write to the client's read, 100 streams of 100 events a second.",
        columns: &[
            ("request p50", "1k-open", "latency_p50", true),
            ("request p99", "1k-open", "latency_p99", true),
            ("first event p50", "ttft", "first_event_p50", true),
            ("first event p99", "ttft", "first_event_p99", true),
            ("event p50", "paced", "delay_p50", true),
            ("event p99", "paced", "delay_p99", true),
        ],
        ratios: false,
    },
    &Table {
        title: "Requests per second",
        text: "With 32 connections in a closed loop. What no gateway at all reaches (direct) is the limit of load and engine.",
        columns: &[
            ("1 KiB", "1k", "requests_per_second", false),
            ("32 KiB", "32k", "requests_per_second", false),
            ("300 KiB", "300k", "requests_per_second", false),
            ("2 MiB", "2m", "requests_per_second", false),
        ],
        ratios: false,
    },
    &Table {
        title: "Memory per idle stream",
        text: "KiB of RAM (PSS) for each of so many streams that had one event and wait for the next, beyond what the gateway has before.",
        columns: &[
            ("1,000 streams", "idle-1000", "rss_per_stream_kib", false),
            ("4,000 streams", "idle-4000", "rss_per_stream_kib", false),
            ("9,000 streams", "idle-9000", "rss_per_stream_kib", false),
        ],
        ratios: false,
    },
];

/// File, title, unit, load, figure.
pub(crate) const PLOTS: [(&str, &str, &str, &str, &str); 4] = [
    (
        "request.svg",
        "CPU time per 1 KiB request",
        "us",
        "1k",
        "cpu_per_request",
    ),
    (
        "event.svg",
        "CPU time per event of paced streams",
        "us",
        "paced",
        "cpu_per_event",
    ),
    (
        "burst.svg",
        "CPU time per event of bursts",
        "us",
        "burst",
        "cpu_per_event",
    ),
    (
        "memory.svg",
        "Memory per stream, 9,000 idle streams",
        "KiB",
        "idle-9000",
        "rss_per_stream_kib",
    ),
];
