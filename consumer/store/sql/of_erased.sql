-- The sessions of a tenant, and what is left of them: for the statements of `consumer/store/erasing.py`.
CREATE OR REPLACE TEMP TABLE erasing AS
SELECT project, session_id
FROM session_identities
WHERE tenant = $tenant AND ($project IS NULL OR project = $project)
ORDER BY session_id, project;
