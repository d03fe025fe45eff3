-- The items of an input that are not done: `gc` keeps the results of such inputs. After a change of the model, it would else
-- read all items for each page of results.
create index work_items_open_input on work_items (stage, input_digest) where state <> 'done';
