-- job: usage_metrics v1 | source: events | sink: usage
-- Usage as partials that add up, one an event; imported events count at the time they happened. `resolved` counts
-- resolves by a person, `messages_*` public messages by the kind of their author. Grain: (source_event).
-- reads: conversation_started, message_posted, conversation_resolved
-- columns: source_event TEXT, tenant TEXT, minute_ms BIGINT, metric TEXT, value BIGINT
SELECT
  json_get_str(value, 'id') AS source_event,
  json_get_str(value, 'tenant') AS tenant,
  -- The start of the minute; % keeps the sign, so that times before 1970 need the second one.
  json_get_int(value, 'occurredAt')
    - (json_get_int(value, 'occurredAt') % 60000 + 60000) % 60000 AS minute_ms,
  coalesce(
    CASE json_get_str(value, 'type')
      WHEN 'conversation_started' THEN 'conversations'
      WHEN 'conversation_resolved' THEN 'resolved'
    END,
    CASE json_get_str(value, 'data', 'authorType')
      WHEN 'visitor' THEN 'messages_visitor'
      WHEN 'agent' THEN 'messages_agent'
      WHEN 'bot' THEN 'messages_bot'
    END
  ) AS metric,
  CAST(1 AS BIGINT) AS value
FROM events
WHERE json_get_str(value, 'type') IN ('conversation_started', 'message_posted')
  OR (json_get_str(value, 'type') = 'conversation_resolved' AND json_get_str(value, 'actor', 'kind') = 'agent')
