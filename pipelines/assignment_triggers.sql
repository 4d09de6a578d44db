-- job: assignment_triggers v1 | source: events | sink: assignments
-- What may let a waiting conversation be assigned: it entered the queue, an agent can take one more, or other agents
-- serve its group now.
-- Who gets it is decided by the command that a row becomes. Imported events cause no assignment.
-- Grain: (source_event).
-- reads: conversation_queued, agent_status_changed, agent_updated, agent_assigned, agent_unassigned,
--   conversation_resolved, conversation_closed, conversation_stale, group_updated, group_members_changed,
--   resource_deleted, resource_restored
-- columns: source_event TEXT, tenant TEXT, trigger TEXT
SELECT
  json_get_str(value, 'id') AS source_event,
  json_get_str(value, 'tenant') AS tenant,
  CASE json_get_str(value, 'type')
    WHEN 'conversation_queued' THEN json_get_str(value, 'data', 'trigger')
    WHEN 'agent_assigned' THEN 'slot_freed'
    WHEN 'agent_unassigned' THEN 'slot_freed'
    WHEN 'conversation_resolved' THEN 'slot_freed'
    WHEN 'conversation_closed' THEN 'slot_freed'
    WHEN 'conversation_stale' THEN 'slot_freed'
    ELSE 'agent_available'
  END AS trigger
FROM events
WHERE json_get_str(value, 'origin') = 'live'
  AND (
    json_get_str(value, 'type') = 'conversation_queued'
    OR (json_get_str(value, 'type') = 'agent_status_changed'
      AND json_get_str(value, 'data', 'status') = 'online'
      AND json_get_bool(value, 'data', 'acceptingChats'))
    -- A larger capacity, or a role that may reply, makes room without a chat having ended.
    OR (json_get_str(value, 'type') = 'agent_updated'
      AND (json_get_int(value, 'data', 'maxConcurrentChats') IS NOT NULL
        OR json_get_str(value, 'data', 'role') <> 'viewer'))
    -- Who joins a group serves its queue; a deleted group's conversations come to the default group's agents, or to all.
    OR (json_get_str(value, 'type') = 'group_members_changed'
      AND json_get_str(value, 'data', 'add', 0) IS NOT NULL)
    OR (json_get_str(value, 'type') = 'group_updated'
      AND json_get_bool(value, 'data', 'isDefault') IS NOT NULL)
    OR (json_get_str(value, 'type') IN ('resource_deleted', 'resource_restored')
      AND json_get_str(value, 'data', 'kind') = 'group')
    -- Whoever had the conversation before has a slot again.
    OR (json_get_str(value, 'type') = 'agent_assigned'
      AND json_get_str(value, 'data', 'previousAgentId') IS NOT NULL)
    OR (json_get_str(value, 'type') IN ('agent_unassigned', 'conversation_resolved', 'conversation_closed', 'conversation_stale')
      AND json_get_str(value, 'data', 'agentId') IS NOT NULL)
  )
