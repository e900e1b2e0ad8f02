-- The sums of a day whose single rows are not all there any more.
INSERT INTO folded_usage BY NAME
SELECT * FROM old.main.folded_usage WHERE day = $day ORDER BY session_id, project, first_place
