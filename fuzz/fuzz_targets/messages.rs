#![no_main]
multifeed_fuzz::target!(messages);
