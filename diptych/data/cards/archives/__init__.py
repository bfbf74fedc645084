"""The original archives, in modules of sets that are alike; importing this package registers them all."""

import diptych.data.cards.archives.captions
import diptych.data.cards.archives.class_folders
import diptych.data.cards.archives.driving
import diptych.data.cards.archives.imagenet
import diptych.data.cards.archives.memes
import diptych.data.cards.archives.objects
import diptych.data.cards.archives.pathology
import diptych.data.cards.archives.places
import diptych.data.cards.archives.robust_frames
import diptych.data.cards.archives.scenes
import diptych.data.cards.archives.videos  # noqa: F401
