"""The list of what a Flight SQL server is held to, FS-1 to FS-66: each number has tests, or a reason on a page.

``HELD`` is the one place where a number meets its tests. What is held in part stands here and in the table of
docs/compatibility.md; what is not held stands there alone, with the reason.
"""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.support.fixtures import ROOT

NUMBERS = (*range(1, 7), *range(10, 17), *range(20, 40), *range(40, 49), *range(50, 57), *range(60, 67))
PAGE = (ROOT / "docs" / "compatibility.md").read_text()
REASON = re.compile(r"^\| FS-(\d+) (not held|in part) \| (.+) \|$", re.MULTILINE)

HELD = {
    1: "wire_messages::any_type_url_prefix_is_understood rpcs::descriptors_that_name_nothing_are_invalid"
    " rpcs::tickets_that_name_nothing_are_invalid rpcs::garbage_in_an_action_is_invalid",
    2: "wire_messages::no_message_is_registered_in_the_default_pool wire_messages::field_numbers_are_the_published_ones"
    " wire_messages::flight_messages_are_those_of_arrow",
    3: "rpcs::handshake_answers_once_before_anything_is_sent rpcs::pyarrow_clients_log_in_query_and_prepare",
    4: "rpcs::listed_actions_are_those_that_are_accepted",
    5: "rpcs::schemas_agree_between_info_schema_prepare_poll_and_stream rpcs::list_flights_and_exchange_are_not_there"
    " server::health_says_whether_to_send_traffic",
    6: "rpcs::the_deprecated_cancel_is_wrapped_and_does_the_same rpcs::closing_returns_nothing_and_accepts_any_handle"
    " rpcs::a_fresh_session_lists_catalog_schema_and_time_zone",
    10: "rpcs::schemas_agree_between_info_schema_prepare_poll_and_stream adbc::the_promised_schema_is_the_schema_that_comes"
    " e2e/query_surface::what_is_promised_is_what_comes",
    11: "e2e/profiles::every_table_is_what_was_promised_for_it rpcs::headers_reach_prepare_and_execute_alike",
    12: "rpcs::zero_rows_still_bring_the_schema flight_data::no_rows_give_the_schema_alone",
    13: "rpcs::metadata_commands_answer_alike_everywhere",
    14: "rpcs::a_flight_info_has_one_endpoint_here_and_echoes_its_descriptor",
    15: "flight_data::streams_are_cut_to_frames_and_come_back flight_data::one_huge_row_goes_alone",
    16: "rpcs::dictionaries_survive_the_way flight_data::dictionaries_that_change_are_sent_again",
    20: "adbc::a_cursor_fetches_rows_in_every_way adbc::parameters_of_each_type_arrive"
    " adbc::the_same_text_twice_reuses_the_prepared_statement adbc::interleaved_cursors_do_not_disturb_each_other",
    22: "rpcs::queries_run_in_do_get_alone",
    23: "clients/micromegas::the_methods_of_the_client_answer clients/micromegas::rows_are_those_of_the_original",
    24: "wire_messages::a_ticket_without_its_any_is_understood rpcs::do_get_takes_every_form_of_ticket",
    25: "headers::absent_and_empty_headers_ask_for_nothing",
    26: "engine/engine::a_trailing_semicolon_or_comment_is_no_second_statement adbc::none_or_two_statements_are_refused",
    27: "rpcs::writes_are_refused_before_the_client_ends_its_stream",
    28: "rpcs::writes_are_refused_before_the_client_ends_its_stream",
    30: "adbc::sixteen_clients_share_one_text_and_close_it_at_will",
    31: "rpcs::forged_handles_are_not_found handles::another_callers_handle_is_not_found",
    32: "engine/values::a_parameter_is_whole_only_if_a_column_a_cast_or_a_function_says_so"
    " engine/values::what_only_the_value_decides_is_left_open_and_then_does_as_declared"
    " clients/jdbc::a_parameter_arrives_as_it_was_set",
    33: "rpcs::bound_values_work_through_the_new_and_the_old_handle",
    35: "rpcs::a_write_in_a_transaction_is_invalid rpcs::preparing_in_a_transaction_is_invalid"
    " metadata::there_are_no_transactions adbc::the_default_connection_only_warns_that_there_are_no_transactions",
    36: "e2e/cancel::a_cancelled_aggregate_ends e2e/cancel::a_cancelled_stream_ends e2e/cancel::a_deadline_ends_the_statement"
    " e2e/cancel::a_reader_that_goes_away_takes_its_statement_along clients/jdbc::a_statement_is_cancelled"
    " rpcs::cancelling_a_flight_info_ends_all_runs_of_its_text",
    37: "e2e/hostile_sql::a_statement_past_its_time_is_told_so",
    38: "server::a_stalled_reader_is_cut_and_told",
    39: "e2e/paused_readers::a_hundred_paused_readers_leave_everybody_else_alone_and_get_all_their_rows",
    40: "metadata::results_have_the_declared_schema metadata::four_columns_without_schemas_and_five_with"
    " adbc::objects_at_every_depth",
    41: "metadata::catalogs_are_absent_empty_named_or_a_pattern metadata::patterns_and_escapes",
    42: "metadata::all_spellings_of_table_are_equal",
    43: "metadata::the_exact_name_comes_first",
    44: "metadata::table_schemas_carry_what_tools_show adbc::query_schemas_carry_no_remarks",
    46: "metadata::an_empty_list_asks_for_the_standard_codes_and_no_other"
    " metadata::each_answer_is_in_the_member_that_drivers_cast metadata::unknown_codes_are_absent_and_asked_ones_come_in_order"
    " clients/jdbc::the_getters_of_the_metadata_answer",
    47: "metadata::type_info_is_sorted_and_filtered",
    48: "metadata::results_have_the_declared_schema clients/jdbc::the_getters_of_the_metadata_answer",
    50: "rpcs::a_cookie_keeps_the_session_and_nothing_leaks_without_it rpcs::a_fresh_session_lists_catalog_schema_and_time_zone"
    " rpcs::options_are_erased_by_no_value_and_refused_by_kind",
    51: "e2e/identities::every_rpc_of_flight_refuses_who_is_not_known access/identities::clients_may_spell_a_credential_as_they_do"
    " access/identities::who_is_not_known_is_refused_without_a_word_of_the_credential",
    52: "e2e/identities::a_login_gets_back_the_key_it_came_with_and_no_other_call_does",
    53: "server::fat_tokens_are_taken_and_fatter_headers_refused",
    54: "headers::descriptions_are_cut_short_and_identity_is_not_the_clients_to_set",
    55: "e2e/tls::every_port_speaks_tls_to_who_trusts_its_authority e2e/tls::a_renewed_certificate_is_served_and_half_a_renewal_is_not"
    " e2e/tls::clients_are_known_by_certificates_where_an_authority_of_theirs_is_given"
    " access/identities::a_socket_of_the_servers_user_is_the_operator_and_a_certificate_is_its_name",
    56: "access/identities::a_database_that_does_not_answer_lets_nobody_in_and_says_so"
    " access/tokens::keys_outlive_an_outage_of_the_issuer_and_without_any_the_answer_is_to_try_again",
    60: "status::every_kind_of_error_has_a_status rpcs::errors_arrive_with_their_code_wherever_they_happen",
    61: "status::a_fault_of_ours_is_told_by_its_id_alone status::messages_are_one_short_line",
    62: "server::draining_lets_running_queries_end_and_refuses_new_ones server::the_grace_cuts_what_does_not_end"
    " server::a_second_stop_is_immediate",
    64: "server::a_refused_statement_leaves_the_log_line_of_every_statement",
    65: "e2e/profiles::what_macros_of_grafana_become_is_answered engine/spelling::a_dashboard_is_sent_types_that_it_can_show",
}


@cache
def _tests_of(module: str) -> frozenset[str]:
    folder, _, name = module.rpartition("/")
    tree = ast.parse((ROOT / "tests" / (folder or "flight") / f"test_{name}.py").read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


@pytest.mark.parametrize("number", NUMBERS)
def test_each_number_has_its_tests_or_its_reason(number: int) -> None:
    reasons = {int(found): state for found, state, _ in REASON.findall(PAGE)}

    if number not in HELD:
        assert reasons.get(number) == "not held"
        return
    assert reasons.get(number, "in part") == "in part"
    for cited in HELD[number].split():
        module, _, test = cited.partition("::")
        assert f"test_{test}" in _tests_of(module), cited


def test_no_other_number_is_spoken_of() -> None:
    assert HELD.keys() <= set(NUMBERS)
    assert {int(number) for number, _, _ in REASON.findall(PAGE)} <= set(NUMBERS)
