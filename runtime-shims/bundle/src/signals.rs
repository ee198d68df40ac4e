//! The signal that stops a container.
//!
//! Must not know: who sends it.

use oci_spec::image::Config;
use pintle_cri::v1::{ContainerConfig, Signal};

use crate::Invalid;

/// A signal by its Linux number, with CRI's name for it where it has one (`ContainerStatus.stop_signal`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSignal {
    pub number: i32,
    pub name: Signal,
}

/// The real-time signals that glibc leaves to programs.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;
const TERM: StopSignal = StopSignal { number: 15, name: Signal::Sigterm };
/// Names without `SIG`, by number; the older names of a number come after the usual ones.
const NAMES: [(&str, i32); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("IOT", 6),
    ("CLD", 17),
    ("POLL", 29),
];

/// The request's signal, else the image's (`SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`), else SIGTERM.
///
/// # Errors
/// A signal nobody knows.
pub fn stop_signal(config: &ContainerConfig, image: Option<&Config>) -> Result<StopSignal, Invalid> {
    let named = match (config.stop_signal(), image.and_then(|image| image.stop_signal().as_deref())) {
        (Signal::RuntimeDefault, None | Some("")) => return Ok(TERM),
        (Signal::RuntimeDefault, Some(text)) => text.to_owned(),
        (signal, _) => signal.as_str_name().replace("MINPLUS", "MIN+").replace("MAXMINUS", "MAX-"),
    };
    let number = number(&named).ok_or_else(|| Invalid::new("stop_signal", format!("unknown signal {named:?}")))?;
    Ok(StopSignal { number, name: name(number) })
}

fn number(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let found = match (bare.strip_prefix("RTMIN"), bare.strip_prefix("RTMAX")) {
        (Some(rest), _) => RTMIN + offset(rest, '+')?,
        (_, Some(rest)) => RTMAX - offset(rest, '-')?,
        _ => match bare.parse::<i32>() {
            Ok(number) => number,
            Err(_) => NAMES.iter().find(|(name, _)| *name == bare)?.1,
        },
    };
    (1..=RTMAX).contains(&found).then_some(found)
}

fn offset(rest: &str, sign: char) -> Option<i32> {
    if rest.is_empty() {
        return Some(0);
    }
    rest.strip_prefix(sign)?.parse().ok().filter(|offset| (0..=RTMAX - RTMIN).contains(offset))
}

fn name(number: i32) -> Signal {
    let text = match number {
        RTMIN => "SIGRTMIN".to_owned(),
        RTMAX => "SIGRTMAX".to_owned(),
        35..50 => format!("SIGRTMINPLUS{}", number - RTMIN),
        50.. => format!("SIGRTMAXMINUS{}", RTMAX - number),
        number => {
            NAMES.iter().find(|(_, known)| *known == number).map(|(name, _)| format!("SIG{name}")).unwrap_or_default()
        }
    };
    Signal::from_str_name(&text).unwrap_or(Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_image(text: &str) -> Result<StopSignal, Invalid> {
        let mut image = Config::default();
        image.set_stop_signal(Some(text.to_owned()));
        stop_signal(&ContainerConfig::default(), Some(&image))
    }

    #[test]
    fn the_request_comes_before_the_image() {
        assert_eq!(stop_signal(&ContainerConfig::default(), None), Ok(TERM));
        assert_eq!(of_image("").unwrap(), TERM);
        for text in ["SIGUSR1", "USR1", "usr1", "10"] {
            assert_eq!(of_image(text), Ok(StopSignal { number: 10, name: Signal::Sigusr1 }), "{text}");
        }
        let config = ContainerConfig { stop_signal: Signal::Sigrtminplus3.into(), ..Default::default() };
        assert_eq!(stop_signal(&config, None), Ok(StopSignal { number: 37, name: Signal::Sigrtminplus3 }));
        assert_eq!(of_image("SIGRTMAX-2").unwrap().number, 62);
        for text in ["SIGNOT", "0", "65", "RTMIN+99", "RTMIN-1"] {
            assert!(of_image(text).unwrap_err().to_string().starts_with("stop_signal: unknown signal"), "{text}");
        }
    }

    #[test]
    fn every_signal_of_cri_has_a_number_and_comes_back() {
        for value in 1..=65 {
            let signal = Signal::try_from(value).unwrap();
            let config = ContainerConfig { stop_signal: value, ..Default::default() };
            let got = stop_signal(&config, None).unwrap();
            assert_eq!(name(got.number), got.name);
            let older = matches!(signal, Signal::Sigiot | Signal::Sigcld | Signal::Sigpoll);
            assert!(older || got.name == signal, "{signal:?} {got:?}");
        }
    }
}
