-- Notifications: messages for people about events of this ledger, once per event and channel of the pipeline file's `notify`.

create table notify_channels (
    name text primary key,
    failures_to bigint not null,              -- failures up to this transition were looked at
    seen bigint[] not null default '{}',      -- failures after it that a notification named
    done_to bigint not null,                  -- work that was done up to this transition was looked at
    grouped_at timestamptz                    -- the last notification about failures: the next one waits for others
);

create table notifications (                  -- one message on its way to one channel
    notification_id bigint generated always as identity primary key,
    channel text not null references notify_channels on delete cascade,
    event text not null,                      -- done, needs_you, misconfigured, away
    key text not null,                        -- what makes the event one event
    title text not null,
    message text not null,
    state text not null default 'pending' check (state in ('pending', 'sent', 'dead')),
    attempts integer not null default 0,      -- that the channel refused
    waits integer not null default 0,         -- attempts in a row at which the channel was unavailable
    not_before timestamptz,
    reason text,                              -- of the last attempt that failed
    created_at timestamptz not null default clock_timestamp(),
    changed_at timestamptz not null default clock_timestamp(),
    unique (channel, key)
);
create index notifications_open on notifications (channel, notification_id) where state = 'pending';
