-- An agent's key may be followed by another, and may be revoked.

-- Since when the key is this connection's.
ALTER TABLE connection ADD COLUMN agent_key_since INTEGER;
-- Accepted beside the key until it proves itself, and then in its place.
ALTER TABLE connection ADD COLUMN next_agent_key BLOB
    CHECK (next_agent_key IS NULL OR length(next_agent_key) = 32);
-- When this side last revoked an agent of this connection.
ALTER TABLE connection ADD COLUMN agent_revoked_at INTEGER;

UPDATE connection SET agent_key_since = accepted_at;

-- Keys that are accepted no more, so that their owners are told why. Only the newest of each connection.
CREATE TABLE former_agent_key (
    id          INTEGER PRIMARY KEY,
    connection  BLOB NOT NULL REFERENCES connection (id) ON DELETE CASCADE,
    key         BLOB NOT NULL CHECK (length(key) = 32),
    why         TEXT NOT NULL CHECK (why IN ('replaced', 'revoked')),
    ended_at    INTEGER NOT NULL,
    UNIQUE (connection, key)
) STRICT;
