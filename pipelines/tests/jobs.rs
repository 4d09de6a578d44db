//! The jobs' rules, a case a line, and what the runner says about a job or an event that is wrong.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use ingest::id::{ConversationId, EventId, PersonId, TenantId};
use ingest::payload::{MailKind, Trigger};
use ingest::time::Timestamp;
use pipelines::{AssignmentTrigger, Job, JobError, JobOutput, JobRunner, MailRow, UsageMetric, UsageRow, readable_id};
use support::{check, event, expand, job};

fn id(digit: char) -> String {
    expand(&format!("\"${digit}")).replace('"', "")
}

#[test]
fn a_queued_conversation_triggers_with_its_reason() {
    let check = |line: &str, rows: &[&str]| check("assignment_triggers", line, rows);
    check(r#"live visitor conversation_queued {"threadId":"$1","trigger":"reopened","rank":1}"#, &["reopened"]);
    check(r#"import visitor conversation_queued {"threadId":"$1","trigger":"reopened","rank":1}"#, &[]);
    let transferred =
        r#"live agent conversation_queued {"threadId":"$1","trigger":"transferred","rank":1,"groupId":"$2"}"#;
    check(transferred, &["transferred"]);
}

#[test]
fn an_agent_triggers_when_they_can_take_more() {
    let check = |line: &str, rows: &[&str]| check("assignment_triggers", line, rows);
    let available = ["agent_available"];
    check(r#"live agent agent_status_changed {"agentId":"$1","status":"online","acceptingChats":true}"#, &available);
    check(r#"live agent agent_status_changed {"agentId":"$1","status":"online","acceptingChats":false}"#, &[]);
    check(r#"live agent agent_status_changed {"agentId":"$1","status":"away","acceptingChats":true}"#, &[]);
    check(r#"live agent agent_updated {"agentId":"$1","maxConcurrentChats":7}"#, &available);
    check(r#"live agent agent_updated {"agentId":"$1","role":"admin"}"#, &available);
    check(r#"live agent agent_updated {"agentId":"$1","role":"viewer"}"#, &[]);
    check(r#"live agent agent_updated {"agentId":"$1"}"#, &[]);
}

#[test]
fn a_group_triggers_when_other_agents_serve_its_queue() {
    let check = |line: &str, rows: &[&str]| check("assignment_triggers", line, rows);
    let available = ["agent_available"];
    check(r#"live agent group_members_changed {"groupId":"$1","add":["$2"]}"#, &available);
    check(r#"live agent group_members_changed {"groupId":"$1","remove":["$2"]}"#, &[]);
    check(r#"live agent group_updated {"groupId":"$1","isDefault":true}"#, &available);
    check(r#"live agent group_updated {"groupId":"$1","name":"x"}"#, &[]);
    check(r#"live agent resource_deleted {"kind":"group","id":"$1"}"#, &available);
    check(r#"live agent resource_restored {"kind":"group","id":"$1"}"#, &available);
    check(r#"live agent resource_restored {"kind":"tag","id":"$1"}"#, &[]);
}

#[test]
fn a_slot_is_freed_only_where_someone_had_it() {
    let check = |line: &str, rows: &[&str]| check("assignment_triggers", line, rows);
    let freed = ["slot_freed"];
    check(r#"live agent conversation_resolved {"threadId":"$1","agentId":"$2"}"#, &freed);
    check(r#"live system conversation_resolved {"threadId":"$1"}"#, &[]);
    check(r#"live visitor conversation_closed {"reason":"visitor","agentId":"$2"}"#, &freed);
    check(r#"live visitor conversation_closed {"reason":"visitor"}"#, &[]);
    check(r#"live agent agent_unassigned {"agentId":"$2","trigger":"unassigned"}"#, &freed);
    check(r#"import agent conversation_resolved {"threadId":"$1","agentId":"$2"}"#, &[]);
    let assigned =
        r#"live agent agent_assigned {"agentId":"$1",PREVIOUS"threadId":"$2","trigger":"manual","strategy":"manual"}"#;
    check(&assigned.replace("PREVIOUS", r#""previousAgentId":"$3","#), &freed);
    check(&assigned.replace("PREVIOUS", ""), &[]);
}

#[test]
fn a_new_conversation_mails_its_visitor_and_the_offline_agents() {
    let check = |line: &str, rows: &[&str]| check("email_notifications", line, rows);
    let welcome = format!("welcome $c $1 {}", readable_id(&id('1')));
    let notice = format!("new_conversation $c - {}", readable_id(&id('c')));
    let started = r#"live visitor conversation_started {"visitorId":"$1","visitorHasEmail":true,"threadId":"$2"}"#;
    check(started, &[&welcome]);
    check(&started.replace("true", "false"), &[]);
    check(&started.replace("live", "import"), &[]);
    let queued = r#"live visitor conversation_queued {"threadId":"$2","trigger":"first_message","rank":1}"#;
    check(queued, &[&notice]);
    check(&queued.replace("first_message", "reopened"), &[]);
    check(&queued.replace("live", "import"), &[]);
}

#[test]
fn usage_counts_live_and_imported_events_in_their_minute() {
    let check = |line: &str, rows: &[&str]| {
        check("usage_metrics", line, rows);
        check("usage_metrics", &line.replacen("live", "import", 1), rows);
    };
    let message = r#"live visitor message_posted {"threadId":"$1","authorType":"bot","content":{"p":"$2","c":"x"},"contentChars":1}"#;
    check(message, &["1750000020000 messages_bot 1"]);
    check(&message.replace("bot", "agent"), &["1750000020000 messages_agent 1"]);
    check(&message.replace("bot", "visitor"), &["1750000020000 messages_visitor 1"]);
    check(r#"live agent conversation_resolved {"threadId":"$1"}"#, &["1750000020000 resolved 1"]);
    check(r#"live system conversation_resolved {"threadId":"$1","agentId":"$2"}"#, &[]);
    check(
        r#"live visitor conversation_started {"visitorId":"$1","visitorHasEmail":true,"threadId":"$2"}"#,
        &["1750000020000 conversations 1"],
    );
    check(r#"live agent note_posted {"threadId":"$1","content":{"p":"$2","c":"x"}}"#, &[]);
}

#[test]
fn rows_are_typed_by_their_sink() {
    let run = |name, line| JobRunner::new(job(name)).unwrap().run(&[event(line)]).unwrap();
    let (source_event, tenant): (EventId, TenantId) = (id('e').parse().unwrap(), id('a').parse().unwrap());
    let conversation: ConversationId = id('c').parse().unwrap();
    let person: PersonId = id('1').parse().unwrap();

    let queued = r#"live visitor conversation_queued {"threadId":"$2","trigger":"first_message","rank":1}"#;
    let started = r#"live visitor conversation_started {"visitorId":"$1","visitorHasEmail":true,"threadId":"$2"}"#;
    let trigger = Trigger::FirstMessage;
    assert_eq!(
        run("assignment_triggers", queued),
        JobOutput::Assignments(vec![AssignmentTrigger { source_event, tenant, trigger }])
    );
    let mail = |kind, person, name: char| MailRow {
        source_event,
        tenant,
        kind,
        conversation,
        person,
        readable_id: readable_id(&id(name)),
    };
    assert_eq!(run("email_notifications", queued), JobOutput::Mails(vec![mail(MailKind::NewConversation, None, 'c')]));
    assert_eq!(run("email_notifications", started), JobOutput::Mails(vec![mail(MailKind::Welcome, Some(person), '1')]));
    let minute = Timestamp(1_750_000_020_000);
    assert_eq!(
        run("usage_metrics", started),
        JobOutput::Usage(vec![UsageRow { source_event, tenant, minute, metric: UsageMetric::Conversations, value: 1 }])
    );
}

/// A job like `assignment_triggers`, with another expression for its trigger.
fn with_trigger(expression: &str) -> Job {
    Job::parse(&format!(
        "-- job: broken v1 | source: events | sink: assignments\n-- For tests. Grain: (source_event).\n\
         -- reads: conversation_queued, note_posted\n-- columns: source_event TEXT, tenant TEXT, trigger TEXT\n\
         SELECT json_get_str(value, 'id') AS source_event, json_get_str(value, 'tenant') AS tenant,\n\
         {expression} AS trigger FROM events"
    ))
    .unwrap()
}

/// The second of three events is the bad one, whichever way it is bad.
#[test]
fn an_event_that_fails_is_named_by_its_offset() {
    let queued = r#"live visitor conversation_queued {"threadId":"$2","trigger":"manual","rank":RANK}"#;
    let at = |offset, rank: &str| {
        let good = event(&queued.replace("RANK", rank));
        std::sync::Arc::new(ingest::log::Record { offset, body: good.body.clone(), event: good.event.clone() })
    };
    let records = [at(40, "1"), at(41, "0"), at(42, "2")];
    for (expression, reason) in [
        ("CASE json_get_int(value, 'data', 'rank') WHEN 0 THEN 'sideways' ELSE 'manual' END", "sideways"),
        ("CASE json_get_int(value, 'data', 'rank') WHEN 0 THEN NULL ELSE 'manual' END", "trigger is NULL"),
        ("CASE 7 / json_get_int(value, 'data', 'rank') WHEN 0 THEN 'manual' ELSE 'manual' END", "ivide by zero"),
    ] {
        let runner = JobRunner::new(with_trigger(expression)).unwrap();
        let error = runner.run(&records).unwrap_err();
        assert!(matches!(&error, JobError::Event { offset: 41, .. }), "{error}");
        assert!(error.to_string().starts_with("failed to run job 'broken' on the event at offset 41: "), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(runner.run(&records[..1]).unwrap().len(), 1);
    }
}

#[test]
fn a_row_can_not_name_another_tenant() {
    let mut job = with_trigger("'manual'");
    job.sql = job.sql.replace("'tenant'", "'conversation'");
    let error = JobRunner::new(job)
        .unwrap()
        .run(&[event(r#"live visitor conversation_queued {"threadId":"$2","trigger":"manual","rank":1}"#)]);
    assert!(error.unwrap_err().to_string().contains("offset 7: its row names another event or tenant"));
}

#[test]
fn a_job_that_is_wrong_is_refused_when_it_is_built() {
    let error = |job| JobRunner::new(job).unwrap_err().to_string();
    assert!(error(with_trigger("count(value)")).contains("can't use the function count"));
    assert!(error(with_trigger("readable_id(1, 2)")).starts_with("failed to plan job 'broken'"));
    assert!(error(with_trigger("1")).contains("its header says source_event TEXT, tenant TEXT, trigger TEXT, its SQL"));
    let mut unnamed = with_trigger("'manual'");
    unnamed.sql = unnamed.sql.replace("AS trigger", "AS cause");
    unnamed.columns[2].name = "cause".to_owned();
    assert!(error(unnamed).contains("the sink 'assignments' takes a column trigger"));
    assert!(error(with_trigger("'a' FROM")).contains("Line: 6"));
}
