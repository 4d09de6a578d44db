-- job: email_notifications v1 | source: events | sink: mails
-- Who is to be mailed at a new conversation: its visitor, who gave an address, a welcome; the tenant's offline agents
-- a notice. Ids only: the sink looks addresses up when it sends. Imported events cause no mail.
-- Grain: (source_event).
-- reads: conversation_started, conversation_queued
-- columns: source_event TEXT, tenant TEXT, kind TEXT, conversation_id TEXT,
--   person_id TEXT (NULL: the tenant's offline agents), readable_id TEXT
SELECT
  json_get_str(value, 'id') AS source_event,
  json_get_str(value, 'tenant') AS tenant,
  CASE json_get_str(value, 'type') WHEN 'conversation_started' THEN 'welcome' ELSE 'new_conversation' END AS kind,
  json_get_str(value, 'conversation') AS conversation_id,
  CASE json_get_str(value, 'type')
    WHEN 'conversation_started' THEN json_get_str(value, 'data', 'visitorId')
  END AS person_id,
  -- A conversation that is queued doesn't name its visitor, so its own id gives the words there.
  readable_id(
    CASE json_get_str(value, 'type')
      WHEN 'conversation_started' THEN json_get_str(value, 'data', 'visitorId')
      ELSE json_get_str(value, 'conversation')
    END
  ) AS readable_id
FROM events
WHERE json_get_str(value, 'origin') = 'live'
  AND (
    (json_get_str(value, 'type') = 'conversation_started' AND json_get_bool(value, 'data', 'visitorHasEmail'))
    OR (json_get_str(value, 'type') = 'conversation_queued'
      AND json_get_str(value, 'data', 'trigger') = 'first_message')
  )
