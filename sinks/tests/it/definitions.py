"""The metrics' definitions computed apart from the product, from what docs/METRICS.md says: a history a line in, its numbers out.

Everything is looked up in the list of events each time it is asked for; nothing is carried along from one to the next.
"""
import json
import sys

HOLDS = {"agent_assigned", "agent_unassigned", "conversation_queued", "conversation_reopened", "conversation_resolved",
         "conversation_closed"}
OPENS = {"conversation_started", "agent_assigned", "conversation_reopened", "conversation_transferred", "message_posted"}


def author(event):
    return event["data"]["authorType"] if event["type"] == "message_posted" else None


def last(events, test):
    return next((event for event in reversed(events) if test(event)), None)


def is_resolved(before):
    told = last(before, lambda event: event["type"] in HOLDS)
    return told is not None and told["type"] == "conversation_resolved"


def stops(event):
    """A resolve or a close; an import that nobody had ended only runs out."""
    return event["type"] == "conversation_resolved" or \
        event["type"] == "conversation_closed" and event["data"]["reason"] != "imported_unresolved"


def ends(events, at):
    """A resolve, or a close of what isn't resolved."""
    return stops(events[at]) and (events[at]["type"] == "conversation_resolved" or not is_resolved(events[:at]))


def holder(events):
    """Who has it after these, or had it when it ended."""
    for event in reversed(events):
        kind, agent = event["type"], event["data"].get("agentId")
        if kind == "agent_assigned" or kind in ("conversation_resolved", "conversation_closed") and agent:
            return agent
        if kind in ("agent_unassigned", "conversation_queued", "conversation_reopened"):
            return None
    return None


def group(events):
    told = last(events, lambda event: event["type"] in ("conversation_transferred", "conversation_queued", "conversation_started")
                and event["data"].get("groupId"))
    return told and told["data"]["groupId"]


def thread(events):
    return last(events, lambda event: event["type"] in OPENS)["data"]["threadId"]


def reply(events, at, over_ends):
    """Seconds from the earliest message of the visitor that has waited for this answer."""
    if author(events[at]) != "agent":
        return None
    since = 0
    for place in range(at):
        if author(events[place]) == "agent":
            since = place + 1
        if not over_ends and stops(events[place]):
            since = place + 1
    waits = [event["occurredAt"] for event in events[since:at] if author(event) == "visitor"]
    return (events[at]["occurredAt"] - waits[0]) / 1000 if waits else None


def rated(events, at):
    """The thread that a rating is of, and whose."""
    ended = [place for place in range(at) if ends(events, place)]
    if not ended:
        data = events[at]["data"]
        return data["threadId"], data.get("agentId"), group(events[:at])
    upto = events[:ended[-1] + 1]
    of = upto[-1]["data"].get("threadId") or thread(upto)
    return of, holder(upto), group(upto)


def resolved_as(events):
    """Of the resolve that stands, if there is one that isn't the end of a standby."""
    at = next((place for place in reversed(range(len(events))) if events[place]["type"] in
               ("conversation_resolved", "conversation_reopened")), None)
    if at is None or events[at]["type"] != "conversation_resolved" or events[at]["data"].get("reason"):
        return None
    if thread(events) != events[at]["data"]["threadId"]:
        return None
    after = any(event["type"] == "conversation_rated" for event in events[at:])
    earlier = [place for place in range(at) if events[place]["type"] == "conversation_rated"]
    before = earlier and rated(events, earlier[-1])[0] == events[at]["data"]["threadId"]
    return "confirmed" if after or before or events[at]["actor"]["kind"] == "visitor" else "assumed"


def numbers(events):
    messages = [place for place, event in enumerate(events) if event["type"] == "message_posted"]
    ratings = [place for place, event in enumerate(events) if event["type"] == "conversation_rated"]
    newest = {}
    for place in ratings:
        of, agent, where = rated(events, place)
        newest[of] = {"score": events[place]["data"]["score"], "agent": agent, "group": where}
    return {
        "replies_v1": [reply(events, place, True) for place in messages],
        "replies_v2": [reply(events, place, False) for place in messages],
        "ratings_v1": [events[place]["data"]["score"] for place in ratings],
        "ratings_v2": newest,
        "resolved_as": resolved_as(events),
    }


for line in sys.stdin:
    print(json.dumps(numbers(json.loads(line))))
