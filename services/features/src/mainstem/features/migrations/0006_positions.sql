-- The state of a fold has its own positions; these were read by nobody, and sets with a common source shared them.
delete from position where starts_with(topic, 'evt.data.');
