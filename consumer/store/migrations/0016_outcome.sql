-- What came of a call, as the newest of its ends says it. Rows of older versions, whose workers did not say, have NULL.
ALTER TABLE session_ends ADD COLUMN outcome VARCHAR;     -- NULL as well where the worker's code said nothing
ALTER TABLE session_ends ADD COLUMN tags JSON;           -- a list of texts
ALTER TABLE session_ends ADD COLUMN tags_cut BIGINT;
ALTER TABLE session_ends ADD COLUMN user_turns BIGINT;   -- NULL as well where the worker did not know
ALTER TABLE session_ends ADD COLUMN preempted JSON;      -- a list of speech ids; NULL likewise

ALTER TABLE settled_sessions ADD COLUMN outcome VARCHAR;
ALTER TABLE settled_sessions ADD COLUMN tags JSON;
ALTER TABLE settled_sessions ADD COLUMN tags_cut BIGINT;
ALTER TABLE settled_sessions ADD COLUMN user_turns BIGINT;
ALTER TABLE settled_sessions ADD COLUMN preempted JSON;
