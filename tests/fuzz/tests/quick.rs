//! Every target with a few inputs of fixed seeds, the same every time.
//!
//! Must not know: what targets do.

use pintle_fuzz::{TARGETS, few};

macro_rules! quick {
    ($($test:ident: $target:literal,)*) => {
        $(
            #[test]
            fn $test() {
                few($target);
            }
        )*

        #[test]
        fn every_target_is_tried() {
            let known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(known, [$($target),*]);
        }
    };
}

quick! {
    layers_stay_in_their_folder: "layers",
    archives_are_images_or_errors: "archives",
    pulls_are_images_or_errors: "registries",
    manifests_are_read_or_refused: "manifests",
    references_are_read_or_refused: "references",
    records_are_read_or_refused: "log-records",
    logs_are_read_to_their_end: "logs",
    sound_logs_are_shown_whole: "sound-logs",
    requests_make_specifications_or_errors: "cri-requests",
    monitor_requests_are_read_or_refused: "monitor-requests",
    monitor_replies_are_read_or_refused: "monitor-replies",
    spdy_sessions_end: "spdy",
    upgraded_sessions_end: "websocket",
    network_configurations_are_read_or_refused: "cni-configurations",
    network_results_are_read_or_refused: "cni-results",
}
