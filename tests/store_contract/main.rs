//! One suite that every implementation of `postrider::store::Store` passes.
//!
//! A contract is a function of a [`backend::Backend`]; [`suite!`] makes a test
//! of each one for each store. A contract that is not listed is a warning
//! (unused function). To wait is always to wait for a condition, so the suite
//! runs on a real clock and on a paused one.

mod access;
mod acks;
mod append;
mod backend;
mod collapse;
mod ephemeral;
mod expiry;
mod gaps;
mod idempotency;
mod inquiries;
mod join;
mod lineage;
mod memory_backend;
mod model;
#[path = "../harness/net.rs"]
#[allow(unreachable_pub, reason = "shared with other test binaries")]
mod net;
mod nodes;
mod random;
mod reclaim;
mod redis_backend;
mod redis_failures;
mod redis_readers;
mod redis_server;
mod streams;
mod support;

/// The tests of one store: `suite!(module, path of an async fn that returns a
/// Backend, attribute of a test)`.
macro_rules! suite {
    ($store:ident, $start:path, $test:meta) => {
        mod $store {
            tests! { $start, $test;
                append {
                    positions_start_at_one_and_are_dense
                    a_message_comes_back_as_it_was_pushed
                    odd_but_valid_channels_do_not_meet
                    pages_end_at_the_limit_and_say_so
                    reading_an_unknown_channel_creates_nothing
                    every_channel_is_listed
                    now_begins_behind_the_last_message
                    heads_come_in_input_order
                    a_batch_answers_in_input_order
                    a_batch_keeps_the_order_of_each_channel
                    a_large_batch_keeps_the_order_of_a_channel_whatever_its_messages_ttls
                    concurrent_appends_are_dense_and_ascending
                }
                access {
                    a_ticket_serves_once_whoever_comes
                    a_ticket_is_worth_nothing_after_its_time
                    a_logout_is_remembered_for_its_time_and_never_goes_back
                    a_users_standing_tells_where_they_are
                }
                idempotency {
                    a_retry_gets_the_first_answer_and_the_routes_of_now
                    another_body_under_the_same_key_is_refused
                    keys_hold_per_channel
                    an_ephemeral_retry_is_not_counted_twice
                    a_key_is_forgotten_after_its_window
                    concurrent_retries_make_one_message
                }
                gaps {
                    a_full_mailbox_drops_its_oldest_and_tells
                    who_was_there_before_the_first_message_is_told_like_anyone
                    oldest_and_now_never_see_a_gap
                    append_tells_what_the_trim_dropped
                    an_unknown_epoch_is_a_reset_that_loses_nothing_kept
                    a_position_that_was_never_given_out_changes_nothing_for_others
                    a_position_ahead_of_a_store_that_was_restarted_is_a_reset_and_renews_the_epoch
                    expired_and_collapsed_holes_are_no_gap
                }
                collapse {
                    a_newer_message_replaces_the_one_of_its_key
                    what_was_received_stays_received_when_replaced
                    a_message_that_expired_first_is_not_collapsed
                    a_message_that_was_trimmed_first_is_not_collapsed
                    a_mailbox_of_one_key_never_fills
                }
                expiry {
                    an_expired_message_is_gone_and_counted_once
                    a_short_life_behind_a_long_one_ends_on_time
                    what_was_received_does_not_expire
                    a_mailbox_that_expired_as_a_whole_is_settled_by_whoever_comes
                    an_untouched_channel_is_forgotten_after_its_retention
                }
                ephemeral {
                    it_takes_no_position_and_is_not_kept
                    without_a_route_it_is_dropped_at_once
                    its_fate_is_what_the_node_reports
                    more_reports_than_messages_are_ignored
                }
                join {
                    who_joins_is_routed_to_until_it_leaves
                    a_late_leave_does_not_undo_a_newer_join
                    a_late_join_does_not_undo_a_newer_one
                    leaving_with_sessions_left_sets_their_number
                    joining_reads_like_read
                    a_device_comes_back_to_where_it_first_joined
                    where_users_meet_a_newcomer_begins_now_and_comes_back_to_there
                    joining_an_unknown_channel_makes_only_a_route
                    a_push_beside_a_join_is_seen_by_route_or_page
                    routes_of_a_gone_node_are_dropped_whatever_their_generation
                    many_join_in_one_trip
                    a_line_that_is_written_while_an_older_one_leaves_is_found_when_its_node_dies
                }
                acks {
                    received_means_by_at_least_one_device
                    cursors_never_go_back
                    a_nameless_session_moves_only_the_watermark
                    a_device_goes_on_where_it_was_and_a_new_one_behind_the_watermark
                    claims_the_store_cannot_understand_are_ignored
                    acks_of_many_channels_are_settled_together
                    holes_are_not_received
                    a_claim_comes_too_late_for_what_expired_or_was_trimmed
                    a_device_whose_cursor_was_trimmed_over_is_told
                    the_cursors_of_a_channel_are_bounded_and_the_stalest_go
                    a_user_of_many_devices_crowds_out_nobody_else
                    of_very_many_devices_some_are_told
                }
                lineage {
                    a_restart_renews_the_epoch_and_numbers_go_on
                    who_saw_more_than_came_back_is_told
                    acks_and_cursors_outlive_their_epoch
                    a_long_lineage_forgets_its_oldest_epochs
                }
                nodes {
                    an_enrolled_node_is_live_and_says_what_it_is
                    who_stops_beating_is_suspected_until_it_beats_again
                    a_node_that_never_enrolled_is_fenced
                    a_node_retires_once_its_stream_is_empty_and_its_channels_left
                }
                streams {
                    entries_arrive_in_order_and_unaltered
                    a_stream_that_is_not_there_is_not_made
                    lag_pending_and_length_tell_how_a_stream_stands
                    a_waiting_consumer_is_woken_and_an_idle_one_returns_empty
                    a_new_consumer_begins_with_what_was_read_and_not_acknowledged
                    enrolling_again_keeps_the_stream
                    an_overlong_stream_loses_its_oldest_and_says_so
                    entries_of_many_senders_all_arrive_once
                }
                reclaim {
                    a_beating_node_cannot_be_fenced
                    a_fenced_node_finds_out_wherever_it_turns
                    exactly_one_survivor_gets_the_lease
                    a_survivor_inherits_read_and_unread_entries_oldest_first
                    a_buried_node_leaves_nothing
                    a_lapsed_lease_passes_on_and_its_old_holder_is_refused
                    a_paused_node_stays_fenced_although_the_lease_lapsed_half_way
                    discarding_renews_the_lease
                }
                inquiries {
                    a_message_is_found_by_its_id_with_and_without_its_position
                    an_id_whose_time_says_nothing_is_found_all_the_same
                    what_left_is_remembered_with_its_reason
                    every_device_has_a_fate_of_its_own
                    of_very_many_devices_some_are_told_of
                    a_device_that_came_later_is_not_asked_about
                    a_withdrawn_message_is_shown_to_nobody_and_counted_once
                    withdrawing_the_last_message_leaves_a_mailbox_that_works
                    recent_messages_come_newest_first_page_by_page
                    a_page_of_large_messages_ends_early
                    an_erased_channel_forgets_all_and_never_reuses_a_position
                    presence_is_of_live_nodes_only
                    answers_are_kept_by_question_and_node
                    a_turn_is_news_to_one_caller
                    watermarks_tell_what_was_received
                }
                random {
                    any_history_keeps_the_ledger_and_the_pages_right
                }
            }
        }
    };
}

macro_rules! tests {
    ($start:path, $test:meta; $($theme:ident { $($contract:ident)* })*) => {
        $(mod $theme {
            $(
                #[$test]
                async fn $contract() {
                    let backend = $start().await;
                    crate::$theme::$contract(&backend).await;
                }
            )*
        })*
    };
}

suite!(memory, crate::memory_backend::start_paused, tokio::test(start_paused = true));
suite!(memory_behind_delays, crate::memory_backend::start_delayed, tokio::test(start_paused = true));
suite!(
    memory_in_real_time,
    crate::memory_backend::start,
    tokio::test(flavor = "multi_thread", worker_threads = 2)
);

suite!(redis, crate::redis_backend::start, tokio::test(flavor = "multi_thread", worker_threads = 2));
