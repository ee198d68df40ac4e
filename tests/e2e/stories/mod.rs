//! The stories, in the order in which they happen to the one cluster.
//!
//! Must not know: how a machine or a cluster is made.

mod aggregate;
mod apply;
mod change;
mod errors;
mod extend;
mod health;
mod inside;
mod kills;
mod library;
mod look;
mod mounts;
mod network;
mod node;
mod pods;
mod resize;
mod whole;

use crate::cluster::Cluster;

/// Something a user does, with what they may expect of it.
pub struct Story {
    pub name: &'static str,
    pub tell: fn(&mut Cluster),
    /// It is told with kubectl, and skipped where there is none.
    pub kubectl: bool,
    /// It is told in every selection, for the others stand on it.
    pub always: bool,
}

/// A story's name is its function's.
macro_rules! story {
    ($file:ident::$name:ident) => {
        Story { name: stringify!($name), tell: $file::$name, kubectl: true, always: false }
    };
    ($file:ident::$name:ident, always) => {
        Story { always: true, ..story!($file::$name) }
    };
    ($file:ident::$name:ident, without kubectl) => {
        Story { kubectl: false, ..story!($file::$name, always) }
    };
}

pub const STORIES: &[Story] = &[
    story!(whole::a_machine_becomes_a_cluster, without kubectl),
    story!(whole::a_start_that_cannot_work_says_why, without kubectl),
    story!(whole::a_configuration_file_that_cannot_be_is_told, without kubectl),
    story!(library::a_program_deploys_and_reaches_a_web_server, without kubectl),
    story!(library::a_program_reaches_into_a_container, without kubectl),
    story!(library::a_program_changes_objects_safely, without kubectl),
    story!(library::a_quota_gets_back_what_goes_as_fast_as_it_came, without kubectl),
    story!(apply::one_file_makes_a_web_application, always),
    story!(apply::settings_reach_the_containers),
    story!(look::objects_are_shown_in_every_format),
    story!(look::describe_tells_what_happened),
    story!(look::the_api_describes_itself),
    story!(look::permissions_can_be_asked_for),
    story!(extend::a_new_kind_is_kept_checked_and_shown),
    story!(extend::a_policy_refuses_what_it_does_not_like),
    story!(aggregate::another_server_brings_an_api_of_its_own),
    story!(inside::logs_are_read_and_followed),
    story!(inside::logs_of_the_container_before_and_of_files_before_are_kept),
    story!(inside::commands_run_in_containers),
    story!(inside::files_are_copied_both_ways),
    story!(inside::a_port_is_forwarded),
    story!(inside::a_terminal_is_attached_to_a_new_pod),
    story!(pods::init_containers_run_one_after_the_other),
    story!(pods::a_failing_probe_restarts_or_takes_out_of_service),
    story!(health::a_grpc_probe_takes_out_of_service),
    story!(health::hooks_run_around_a_containers_life),
    story!(health::a_hook_that_fails_ends_its_container),
    story!(pods::a_volume_follows_its_config_map),
    story!(mounts::a_mount_is_read_only_with_all_below_it),
    story!(pods::an_image_is_a_volume),
    story!(pods::a_static_pod_lives_with_its_file),
    story!(pods::a_node_refuses_what_it_cannot_run),
    story!(pods::a_daemon_runs_on_every_node),
    story!(pods::a_job_that_fails_is_given_up),
    story!(pods::a_job_lets_a_pod_go_that_is_not_its_own_any_more),
    story!(network::a_service_is_reached_by_address_and_by_name),
    story!(network::names_are_looked_up_from_the_host),
    story!(network::a_headless_service_names_its_pods),
    story!(network::a_client_stays_with_its_pod),
    story!(network::a_node_port_is_reached),
    story!(network::a_host_port_is_reached),
    story!(network::an_address_that_no_service_has_leads_nowhere),
    story!(network::a_service_without_endpoints_refuses),
    story!(network::the_api_server_leads_inside),
    story!(change::a_deployment_is_scaled),
    story!(change::a_new_image_is_rolled_out_and_back),
    story!(change::objects_are_labelled_patched_and_edited),
    story!(change::apply_shows_and_makes_the_difference),
    story!(errors::unknown_fields_and_invalid_objects_are_refused),
    story!(errors::an_image_that_does_not_exist_is_told),
    story!(errors::a_registry_that_is_not_there_is_told),
    story!(errors::an_image_that_cannot_be_named_or_may_not_be_pulled_is_told),
    story!(node::a_container_that_ends_is_started_again),
    story!(node::killing_pintle_touches_no_container),
    story!(node::a_node_is_drained_and_comes_back),
    story!(change::what_is_deleted_goes_with_all_it_owns),
    story!(whole::stopping_leaves_containers_running),
    story!(whole::a_damaged_store_is_named_and_loses_nothing),
    story!(pods::a_pod_has_users_of_its_own),
    story!(resize::a_running_pod_is_resized),
    story!(resize::a_resize_that_cannot_be_is_told),
    story!(kills::pods_deleted_while_they_start_leave_nothing),
    story!(kills::killing_pintle_under_load_loses_nothing),
    // whatever tolerates nothing is gone after it
    story!(node::a_taint_evicts_what_does_not_tolerate_it),
    story!(whole::reset_leaves_nothing, without kubectl),
];
